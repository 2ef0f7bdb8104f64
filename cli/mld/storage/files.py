"""Files that are written atomically and verified when read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld.storage.digests import digest, tensor_bytes
from mld_core.data.regular_file import read_regular_file
from mld_core.errors import OutputError, RunDirError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import JsonValue
    from torch import Tensor


_TEXT_SEAL = "# Written by mld, and not to be edited; sha256 of all that follows: "


def load_json(path: Path) -> Any:
    """The value in a JSON file. RunDirError if it is missing or not JSON."""
    try:
        return json.loads(read_regular_file(path))
    except FileNotFoundError:
        raise RunDirError(f"{path} is missing") from None
    except OSError as error:
        raise RunDirError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunDirError(f"{path} is corrupt: {error}") from error


def with_checksum(value: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A value with its own sha256 added, which `load_checksummed_json` verifies."""
    return {**value, "sha256": digest(value)}


def load_checksummed_json(path: Path) -> dict[str, Any]:
    """The value in a JSON file with a checksum. RunDirError if it is missing or has changed."""
    value = load_json(path)
    if isinstance(value, dict):
        sha256 = value.pop("sha256", None)
        if sha256 is not None and sha256 == digest(value):
            return value
    raise RunDirError(f"{path} is corrupt: its contents do not match their sha256")


def write_sealed_text(path: Path, text: str) -> None:
    """Write a text file whose first line, a comment, holds the sha256 of the rest."""
    write_text(path, f"{_TEXT_SEAL}{_text_digest(text)}\n{text}")


def load_sealed_text(path: Path) -> str:
    """What `write_sealed_text` wrote. RunDirError if it is missing or has changed."""
    try:
        seal, _, text = read_regular_file(path).decode().partition("\n")
    except FileNotFoundError:
        raise RunDirError(f"{path} is missing") from None
    except OSError as error:
        raise RunDirError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunDirError(f"{path} is corrupt: {error}") from error
    if seal != f"{_TEXT_SEAL}{_text_digest(text)}":
        raise RunDirError(f"{path} is not as mld wrote it: its contents do not match their sha256")
    return text


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn an OSError of the block, which writes `path`, into an OutputError.

    Args:
        path: a file or folder, which the message names.
        advice: end of the message: what the user can do.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's, but that of a library
            raise
        in_the_way = isinstance(error, FileExistsError)
        reason = f"{error.filename} is not a folder" if in_the_way else error.strerror
        raise OutputError(f"{path} cannot be written: {reason}{advice}") from error


def partial_path(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to; renamed to `path` if the block succeeds, else deleted.

    Whenever the process is killed, `path` is either the old file or the new one. Only one process
    may write a given path at a time: hold the folder's lock. OutputError if it cannot be written.
    """
    partial = partial_path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _sync(partial, os.O_RDWR)  # Windows syncs no file that is open for reading alone
            partial.replace(path)
            # A rename is durable only once the folder is synced; some systems cannot open a folder.
            with suppress(PermissionError):
                _sync(path.parent, os.O_RDONLY)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with line ends as they are in the text."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: JsonValue | Mapping[str, JsonValue]) -> None:
    """Write a value as JSON. ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def _sync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, value: Mapping[str, JsonValue]) -> int:
    """Append one line of JSON to a file; returns the place of its first byte in the file.

    OutputError if it cannot be written.
    """
    line = json.dumps(value, allow_nan=False).encode() + b"\n"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return _append(path, line)


def _append(path: Path, line: bytes) -> int:
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")  # a killed process has left half a line
        place = file.tell()
        file.write(line)
        return place


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a JSON lines file, without lines that a killed process left unfinished."""
    if not path.is_file():
        return []
    values = []
    # Not splitlines: JSON may contain other line separators unescaped.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values


def read_lines_after(path: Path, place: int) -> tuple[list[dict[str, Any]], int]:
    """The values of the lines after a place in a JSON lines file that are whole.

    Also the place behind them, from which to read on. Lines that a killed process left unfinished
    are left out.
    """
    if not path.is_file():
        return [], place
    with path.open("rb") as file:
        file.seek(place)
        lines, newline, _ = file.read().rpartition(b"\n")
    values = []
    for line in lines.split(b"\n"):
        try:
            values.append(json.loads(line))
        except ValueError:
            continue
    return values, place + len(lines) + len(newline)


def read_checksummed_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a file of lines that `append_line` wrote with `with_checksum`.

    Lines that a killed process left unfinished are left out. RunDirError if a whole one has
    changed.
    """
    if not path.is_file():
        return []
    values = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").split("\n"), 1):
        try:
            value = json.loads(line)
            is_intact = value.pop("sha256") == digest(value)
        except (ValueError, RecursionError):
            is_intact = not line.endswith('"}')
            value = None
        except (AttributeError, KeyError, TypeError):
            is_intact = False
        if not is_intact:
            raise RunDirError(f"{path} is corrupt: line {number} is not as mld wrote it")
        if value is not None:
            values.append(value)
    return values


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that holds the sha256 of its own contents.

    OutputError if it cannot be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Cloned because safetensors refuses names that share memory, such as tied weights.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with atomic_write(path) as partial:
        try:
            save_file(copies, partial, {**metadata, "sha256": _content_digest(copies, metadata)})
        except SafetensorError as error:
            raise OutputError(f"{path} cannot be written: {error}") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a file that `save_tensors` wrote.

    RunDirError if it is missing, truncated, or differs from what was written.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise RunDirError(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path} is corrupt: {error}") from error
    sha256 = metadata.pop("sha256", None)
    if sha256 != _content_digest(tensors, metadata):
        raise RunDirError(f"{path} is corrupt: its contents do not match their sha256")
    return tensors, metadata


@contextmanager
def new_array(path: Path, shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """An .npy file of zeros, mapped to be filled in the block; else as `atomic_write`."""
    import numpy as np

    with atomic_write(path) as partial:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # A disk that is full later would kill the process without a message.
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
        yield array
        array.flush()


def array_layout(path: Path) -> tuple[tuple[int, ...], int]:
    """The shape of the float32 array of an .npy file, and the place of its first byte there.

    RunDirError if the file is missing or holds none.
    """
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise RunDirError(f"{path} is missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise RunDirError(f"{path} is corrupt: {error}") from error
    is_array = isinstance(array, np.memmap) and array.dtype == "<f4" and array.flags.c_contiguous
    if not is_array:
        raise RunDirError(f"{path} is corrupt: it holds no float32 array")
    return array.shape, array.offset


def _content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    hasher = hashlib.sha256(digest(dict(metadata)).encode())
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor_bytes(tensor))
    return hasher.hexdigest()
