"""The samples in shards of WebDataset: where in its .tar file each of their files lies."""

from __future__ import annotations

import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mld_core import DataError

_METADATA = re.compile("__[^/]*__(/|$)")
"""Names of files that are about a shard, not of a sample."""

NOWHERE = -1
"""In place of the offset of a file that a sample lacks."""


@dataclass
class Fields:
    """The files of one extension: the offset and size of each sample's, in the order of samples.

    Args:
        offsets: NOWHERE for samples without this file.
    """

    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, sample: int, offset: int, size: int) -> None:
        """Enter the file of a sample, after all earlier ones."""
        self.pad(sample)
        self.offsets.append(offset)
        self.sizes.append(size)

    def pad(self, samples: int) -> None:
        """Enter that the samples up to this one lack the file."""
        missing = samples - len(self.offsets)
        self.offsets.extend([NOWHERE] * missing)
        self.sizes.extend([0] * missing)


@dataclass
class Shard:
    """The samples of a .tar file.

    Args:
        keys: of each sample, the name of its files up to the first dot.
        fields: by extension, in lower case.
    """

    path: Path
    keys: list[str] = field(default_factory=list)
    fields: dict[str, Fields] = field(default_factory=dict)

    @classmethod
    def scan(cls, path: Path) -> Shard:
        """The samples of a .tar file, found without reading what its files hold.

        As in WebDataset, files in a row with the same key make a sample. DataError if the file is
        no .tar file, or is compressed, or if a sample has two files of one extension.
        """
        from webdataset.tariterators import base_plus_ext

        shard = cls(path)
        for name, offset, size in _members(path):
            key, extension = base_plus_ext(name)
            if key is None:
                continue
            if not shard.keys or key != shard.keys[-1]:
                shard.keys.append(key)
            fields = shard.fields.setdefault(extension.lower(), Fields())
            if len(fields.offsets) == len(shard.keys):
                raise DataError(f"{path}: sample {key!r} has two files .{extension}")
            fields.add(len(shard.keys) - 1, offset, size)
        for fields in shard.fields.values():
            fields.pad(len(shard.keys))
        return shard

    def sizes(self, extension: str) -> list[int | None]:
        """The size of each sample's file of an extension; None without."""
        fields = self.fields.get(extension)
        if fields is None:
            return [None] * len(self.keys)
        places = zip(fields.offsets, fields.sizes, strict=True)
        return [None if offset == NOWHERE else size for offset, size in places]

    def contents(self, extension: str) -> Iterator[bytes | None]:
        """The content of each sample's file of an extension, one after the other; None without."""
        with self.path.open("rb") as file:
            for sample, size in enumerate(self.sizes(extension)):
                yield None if size is None else self._read(file, extension, sample)

    def read(self, extension: str, sample: int) -> bytes:
        """The content of a file that a sample has. OSError if it cannot be read."""
        with self.path.open("rb") as file:
            return self._read(file, extension, sample)

    def _read(self, file: BinaryIO, extension: str, sample: int) -> bytes:
        fields = self.fields[extension]
        file.seek(fields.offsets[sample])
        return file.read(fields.sizes[sample])


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each regular file in a .tar file; metadata are left out."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it grows without end
                if member.isreg() and not _METADATA.match(member.name):
                    yield member.name, member.offset_data, member.size
            # A header that is damaged counts as the end, as zeros do.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"it is damaged or ends at byte {archive.offset:,}")
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{path}: is not a readable .tar file; a compressed one must be decompressed: {error}"
        ) from error
