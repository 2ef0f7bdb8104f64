"""Raw data of a split: read from a file, its content or a cell, and made when indexed."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from jaxtyping import Int

from mld_core import MLDError, Modality, OutputError, ReadError, cell_text, plugin_call


@dataclass(frozen=True)
class LazyItems(Sequence[Any]):
    """The raw data of some keys, each made when indexed; None where the key is None."""

    make: Callable[[Any], Any]
    keys: Sequence[Any] | Int[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: Any) -> Any:
        key = self.keys[row]
        return None if key is None else self.make(key)


@dataclass(frozen=True)
class FileContent:
    """The content of a file, as a cell holds it; `name` is the file's, or else that of the cell."""

    content: bytes
    name: str

    @property
    def suffix(self) -> str:
        """The suffix of the name, such as ".png"; "" if it has no plain one."""
        return next(iter(re.findall(r"\.\w{1,16}\Z", self.name)), "")


def read_item(modality: Modality, source: Path | str) -> Any:
    """What a modality reads from a path, or from the text of a cell where it is inline.

    ReadError if it cannot be read, PluginError if the plugin fails otherwise.
    """
    return _read(modality, source, repr(source) if isinstance(source, str) else str(source))


def read_cell(modality: Modality, cell: Any) -> Any:
    """What a modality reads from a cell: its text where it is inline, else the file that it holds.

    A list of numbers is the array in an .npy file. ValueError if the cell holds none of these;
    other errors as of `read_item`.
    """
    if modality.inline:
        return read_item(modality, inline_text(cell))
    if isinstance(cell, list):
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(cell), allow_pickle=False)
        cell = FileContent(buffer.getvalue(), "array.npy")
    if not isinstance(cell, FileContent):
        raise ValueError(f"the cell must hold a file or its name, not {cell!r:.80}")
    return _read_content(modality, cell)


def inline_text(cell: Any) -> str:
    """The text of a cell, or of the file that it holds. ValueError if it has none."""
    if isinstance(cell, FileContent):
        try:
            return cell.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{cell.name} is not UTF-8 text") from error
    text = cell_text(cell)
    if text is None:
        raise ValueError(f"the cell must be text, a number, true or false, not {cell!r:.80}")
    return text


def _read_content(modality: Modality, file: FileContent) -> Any:
    """What a modality reads from a temporary file with a content and its suffix.

    OutputError if the file cannot be written, which is no fault of the item; other errors as of
    `read_item`.
    """
    try:
        with NamedTemporaryFile(prefix="mld-", suffix=file.suffix, delete=False) as temporary:
            path = Path(temporary.name)
            temporary.write(file.content)
    except OSError as error:
        raise OutputError(f"a temporary file cannot be written: {error}") from error
    try:
        return _read(modality, path, file.name)
    finally:
        path.unlink(missing_ok=True)


def _read(modality: Modality, source: Path | str, name: str) -> Any:
    call = f"kind {modality.kind!r}: read of {name}"
    try:
        with plugin_call(call, passes=(MLDError, ValueError, OSError)):
            return modality.read(source)
    except (ValueError, OSError) as error:
        raise ReadError(name, error) from error
