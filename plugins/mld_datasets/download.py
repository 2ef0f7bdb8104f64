"""Public data in a folder of the user's: locating, downloading and parsing their files."""

from __future__ import annotations

import gzip
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Shaped, UInt8

from mld_core import DataError

MAX_BYTES = 4 << 30
"""The most bytes that a file may hold, decompressed: more than any data set here has."""
READ_ERRORS = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a truncated or corrupt file may raise."""


@dataclass(frozen=True)
class Source:
    """A public data set: its name, its address, and how its files lie in a folder."""

    name: str
    address: str
    layout: str

    def missing_error(self, folder: Path, problem: str = "", advice: str = "") -> DataError:
        """The error if a folder lacks the data, or some of their files."""
        if not problem and folder.is_dir():
            problem = f"contains no {self.name}"
        return DataError(
            f"{folder}: {problem or 'is not a readable folder'}; expected {self.layout}. "
            f"Get {self.name} from {self.address}{advice}"
        )

    def download(self, folder: Path, target: Path, fetch: Callable[[Path], object]) -> None:
        """Download the data with torchvision into a target below a folder.

        They are fetched into a temporary folder first, so a download that fails leaves nothing.
        Existing files are not replaced. What torchvision prints goes to stderr.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=folder) as temporary, redirect_stdout(sys.stderr):
                fetch(Path(temporary))
                for file in [path for path in Path(temporary).rglob("*") if path.is_file()]:
                    destination = target / file.relative_to(temporary)
                    destination.parent.mkdir(parents=True, exist_ok=True)
                    if not destination.exists():
                        file.replace(destination)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            problem = f"{self.name} could not be downloaded into it: {reason}"
            raise self.missing_error(folder, problem) from error


def resolve_gz(path: Path) -> Path:
    """The path, or the path with .gz if only that file exists."""
    gz = path.with_name(f"{path.name}.gz")
    return gz if gz.is_file() and not path.is_file() else path


def unreadable_error(path: Path, error: Exception | str) -> DataError:
    """The error if a file cannot be read."""
    return DataError(f"{path}: cannot be read, truncated or corrupt: {error}")


def read_content(path: Path) -> bytes:
    """A file's bytes, decompressed if it is a .gz; DataError if it is truncated or corrupt."""
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise ValueError(f"it holds more than {MAX_BYTES:,} bytes")
            return content
    except READ_ERRORS as error:
        raise unreadable_error(path, error) from error


def read_idx(path: Path) -> UInt8[np.ndarray, "*axis"]:
    """The array in an IDX file of bytes, plain or .gz."""
    content = read_content(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path}: is not an IDX file of bytes; download it again")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if len(values) != np.prod(shape, dtype=int):
        raise DataError(
            f"{path}: is truncated or corrupt: it has {len(values)} values, but its header says "
            f"{' x '.join(map(str, shape))}; download it again"
        )
    return values.reshape(shape)


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, Shaped[np.ndarray, "*axis"]]:
    """The arrays of an .npz file; DataError if one of the keys is missing."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("contains a single array, not named arrays")
            assert loaded.zip is not None
            if sum(member.file_size for member in loaded.zip.infolist()) > MAX_BYTES:
                raise ValueError(f"it holds more than {MAX_BYTES:,} bytes")
            arrays = {key: loaded[key] for key in loaded.files}
    except (*READ_ERRORS, MemoryError) as error:
        raise unreadable_error(path, error) from error
    missing = [key for key in keys if key not in arrays]
    if missing:
        available = ", ".join(arrays) or "none"
        raise DataError(f"{path}: lacks the array {', '.join(missing)} (arrays here: {available})")
    return arrays
