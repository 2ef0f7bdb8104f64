"""Cells of Arrow arrays, as Parquet files and Hugging Face datasets hold them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from mld_datasets.cell_table import UNREAD
from mld_datasets.item_source import FileContent

if TYPE_CHECKING:
    import pyarrow as pa


def known_cells(array: pa.Array, inline: bool) -> list[Any]:
    """The cells of an array without those that are read when indexed, as of `CellTable.cells`.

    Which cells there are is read from validity bitmaps, and of inline texts from their lengths.
    ValueError if the array is damaged.
    """
    import pyarrow.compute as pc
    from pyarrow import types

    array.validate()
    array = _plain(array)
    if types.is_struct(array.type) and not inline and {"bytes", "path"} <= _fields(array):
        contents, names = (pc.struct_field(array, field) for field in ("bytes", "path"))
        return [
            UNREAD if has_content else name
            for has_content, name in zip(_is_present(contents), values(names), strict=True)
        ]
    is_text = types.is_string(array.type) or types.is_large_string(array.type)
    is_bytes = types.is_binary(array.type) or types.is_large_binary(array.type)
    if inline and (is_text or is_bytes):
        filled = pc.greater(pc.binary_length(array), 0)
        return [UNREAD if is_filled else None for is_filled in filled.to_pylist()]
    if inline or is_bytes or types.is_list(array.type) or types.is_large_list(array.type):
        return [UNREAD if is_present else None for is_present in _is_present(array)]
    return values(array)


def values(array: pa.Array) -> list[Any]:
    """The values of an array. ValueError if it is damaged: they would be read from elsewhere."""
    array.validate(full=True)
    cells: list[Any] = array.to_pylist()
    return cells


def cell_at(array: pa.Array, index: int, name: str) -> Any:
    """A cell of an array; `name` is that of the cell in messages about a file without a name.

    ValueError if the array is damaged.
    """
    (value,) = values(_plain(array.slice(index, 1)))
    match value:
        case bytes():
            return FileContent(value, name)
        case {"bytes": bytes(content), "path": str(path)}:
            return FileContent(content, PurePath(path).name)
        case {"bytes": bytes(content)}:
            return FileContent(content, name)
        case Decimal():
            return str(value)
    return value


def _plain(array: pa.Array) -> pa.Array:
    """The same values without a dictionary, an extension type or views."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def _fields(array: pa.Array) -> set[str]:
    return {field.name for field in array.type}


def _is_present(array: pa.Array) -> list[bool]:
    present: list[bool] = array.is_valid().to_pylist()
    return present
