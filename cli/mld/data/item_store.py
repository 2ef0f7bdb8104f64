"""The item store: columns of packed items in files, filled once and mapped by every run."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Shaped
from pydantic import JsonValue
from torch import Tensor

from mld.data.columns import ColumnItems, ColumnSink
from mld.data.faults import Fault
from mld.data.stored_rows import MappedTensor
from mld.storage.digests import digest, tensor_bytes
from mld.storage.files import load_checksummed_json, with_checksum, write_json, writing
from mld_core import OutputError, RunDirError

ITEMS_FILE, STATE_FILE, LOCK_FILE = "items.bin", "column.json", "lock"
"""What the folder of a column holds."""
SAVE_SECONDS = 5.0
"""The usual time between saved states of a column that is being filled."""
CHUNK_BYTES = 2**20
ADVICE = ": set MLD_STORE to a folder with more space, or choose compute.items: memory"


@dataclass(frozen=True)
class ItemStore:
    """A folder of columns, each under the digest of what decides its items.

    Args:
        root: the folder.
        rows: fingerprint of the dataset whose columns these are.
    """

    root: Path
    rows: str

    @contextmanager
    def column(self, key: Mapping[str, JsonValue], rows: int) -> Iterator[ColumnInFile]:
        """The column of a key, locked until the block ends: other processes wait for it.

        OutputError if it cannot be written.
        """
        from filelock import FileLock

        name = digest({**key, "rows": self.rows})
        folder = self.root / name[:2] / name
        with writing(folder, ADVICE):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK_FILE).acquire()
        with lock, closing(ColumnInFile(folder, rows, key)) as column:
            yield column

    def check_space(self, size: int) -> None:
        """OutputError if so many bytes do not fit on the disk."""
        existing = next(path for path in (self.root, *self.root.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if size > free:
            raise OutputError(
                f"{self.root} has room for {free / 1e9:.1f} GB, and the items need "
                f"{size / 1e9:.1f} GB{ADVICE}"
            )


class ColumnInFile(ColumnSink):
    """Keeps items in a file; goes on where a killed process has saved its state."""

    def __init__(self, folder: Path, rows: int, key: Mapping[str, JsonValue]) -> None:
        super().__init__(rows)
        self._items, self._state = folder / ITEMS_FILE, folder / STATE_FILE
        self._key = dict(key)
        self._shape: tuple[int, ...] = ()
        self._dtype = torch.uint8
        self._sha256 = hashlib.sha256()
        self._is_complete = False
        self._file: BinaryIO | None = None
        self._saved_at = time.monotonic()
        if self._state.is_file():
            try:
                self._restore(load_checksummed_json(self._state))
            except RunDirError as error:
                warnings.warn(f"{error}; its items are read again", stacklevel=4)
        self._stored_before = int(self.present.sum())

    def add(self, row: int, packed: Shaped[Tensor, " one *packed"]) -> None:
        """Keep the item of a row; now and then all is saved for a later process."""
        super().add(row, packed)
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save()

    def _keep(self, packed: Shaped[Tensor, " one *packed"]) -> None:
        self._shape, self._dtype = tuple(packed.shape[1:]), packed.dtype
        content = tensor_bytes(packed)
        self._sha256.update(content)
        with writing(self._items, ADVICE):
            if self._file is None:
                self._file = self._items.open("ab")
                # Without what was written after the last saved state.
                self._file.truncate(self._size)
            self._file.write(content)

    def finish(self) -> ColumnItems:
        """The items, mapped from the file."""
        if not self._is_complete:
            self.next_row, self._is_complete = len(self.present), True
            self._save()
        with suppress(OSError):
            os.utime(self._state)  # the time of its last use
        count = int(self.present.sum())
        packed = MappedTensor(self._items, (count, *self._shape), self._dtype) if count else None
        return ColumnItems(packed, self.present, self.faults, self._stored_before)

    @property
    def _size(self) -> int:
        """The bytes of the items so far."""
        return int(self.present.sum()) * _item_bytes(self._shape, self._dtype)

    def close(self) -> None:
        """Close the file, to which nothing can be added then."""
        if self._file is not None:
            self._file.close()

    def _save(self) -> None:
        if self._file is not None:
            with writing(self._items, ADVICE):
                self._file.flush()
                os.fsync(self._file.fileno())
        state: dict[str, JsonValue] = {
            "next_row": self.next_row,
            "present": np.packbits(self.present.numpy()).tobytes().hex(),
            "faults": [asdict(fault) for fault in self.faults],
            "warned": {message: [*rows] for message, rows in self.warned.items()},
            "item": self.item,
            "shape": [*self._shape],
            "dtype": str(self._dtype).removeprefix("torch."),
            "items_sha256": self._sha256.hexdigest(),
            "is_complete": self._is_complete,
            "key": self._key,
        }
        write_json(self._state, with_checksum(state))
        self._saved_at = time.monotonic()

    def _restore(self, state: Mapping[str, Any]) -> None:
        """What `_save` saved. RunDirError if the items have changed since."""
        bits = np.frombuffer(bytes.fromhex(state["present"]), np.uint8)
        present = np.unpackbits(bits, count=len(self.present)).astype(bool)
        shape, dtype = tuple(state["shape"]), getattr(torch, state["dtype"])
        sha256 = hashlib.sha256()
        for chunk in _chunks(self._items, int(present.sum()) * _item_bytes(shape, dtype)):
            sha256.update(chunk)
        if sha256.hexdigest() != state["items_sha256"]:
            raise RunDirError(f"{self._items} is not as mld wrote it")
        self.present, self._shape, self._dtype = torch.from_numpy(present), shape, dtype
        self._sha256, self._is_complete = sha256, state["is_complete"]
        self.next_row, self.item = state["next_row"], state["item"]
        self.faults.extend(Fault(**fault) for fault in state["faults"])
        self.warned.update(state["warned"])


def _item_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * dtype.itemsize


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    """The first bytes of a file, of which there may be fewer, some at once."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while size and (chunk := file.read(min(size, CHUNK_BYTES))):
            yield chunk
            size -= len(chunk)
