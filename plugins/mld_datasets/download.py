"""Public data in a folder of the user's: found, fetched, read, and what to say where they fail."""

from __future__ import annotations

import gzip
import hashlib
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Shaped, UInt8

from mld_core import DataError

_UNREADABLE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Source:
    """A public data set: its name, its address, and how its files lie in a folder."""

    name: str
    address: str
    layout: str

    def missing(self, folder: Path, lacks: str = "", advice: str = "") -> DataError:
        """The error where a folder lacks the data, or some of their files."""
        told = f"holds no {self.name}" if folder.is_dir() else "is no folder that can be read"
        return DataError(
            f"{folder}: {lacks or told}; expected is {self.layout}. "
            f"{self.name} comes from {self.address}{advice}"
        )

    def download(self, folder: Path, home: Path, fetch: Callable[[Path], object]) -> None:
        """Let torchvision fetch the data into their home in a folder; half a download leaves none.

        What is there already stays as it is. What torchvision prints goes to stderr.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as told, redirect_stdout(sys.stderr):
                fetch(Path(told))
                for file in [path for path in Path(told).rglob("*") if path.is_file()]:
                    place = home / file.relative_to(told)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if not place.exists():
                        file.replace(place)
        except (OSError, RuntimeError) as error:
            said = " ".join(str(error).split())
            lacks = f"{self.name} could not be downloaded into it: {said}"
            raise self.missing(folder, lacks) from error


def content_digest(told: str, files: Iterable[Path]) -> str:
    """A digest of what was told, and of each file's name and content, whatever its time."""
    contents = [(file.name, _digest(file, file.stat().st_mtime_ns)) for file in files]
    return hashlib.sha256(f"{told} {contents}".encode()).hexdigest()


@cache
def _digest(file: Path, changed: int) -> str:
    """Read once while it stays as it was changed last: every cell of a suite asks."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def resolve_gz(path: Path) -> Path:
    """The path itself; with .gz where only that file is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def unreadable(path: Path, error: Exception | str) -> DataError:
    """The error where a file cannot be read."""
    return DataError(f"{path}: cannot be read, truncated or corrupt: {error}")


def read_content(path: Path) -> bytes:
    """A file's bytes, unpacked if it is a .gz; DataError where it is truncated or corrupt."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            return file.read()
    except _UNREADABLE as error:
        raise unreadable(path, error) from error


def read_idx(path: Path) -> UInt8[np.ndarray, "*axis"]:
    """The array in an IDX file of bytes, plain or packed."""
    content = read_content(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path}: is no IDX file of bytes: fetch it again")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if len(values) != np.prod(shape, dtype=int):
        raise DataError(
            f"{path}: is cut short or corrupt: {len(values)} values, and its header promises "
            f"{' x '.join(map(str, shape))}: fetch it again"
        )
    return values.reshape(shape)


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, Shaped[np.ndarray, "*axis"]]:
    """The arrays of an .npz file, which has at least these keys."""
    try:
        with open(path, "rb") as opened:
            loaded = np.load(opened)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("holds one array, and not several by name")
            arrays = {key: loaded[key] for key in loaded.files}
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
    lacking = [key for key in keys if key not in arrays]
    if lacking:
        seen = ", ".join(arrays) or "none"
        raise DataError(f"{path}: lacks the array {', '.join(lacking)} (arrays here: {seen})")
    return arrays
