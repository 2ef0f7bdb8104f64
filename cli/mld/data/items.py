"""Items as files: writing one item with its previews."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from mld.storage.files import writing
from mld.storage.outputs import probe
from mld_core import Modality, PluginError, plugin_call

JSON_NUMBERS = frozenset({int, float})
"""The types of numbers in JSON."""


def write_item(modality: Modality, x: Tensor, stem: Path) -> tuple[str | None, list[Path]]:
    """Write one item: its manifest cell if it is inline, and the file with its previews.

    PluginError names the plugin and the method if one of them fails, OutputError the files if the
    disk is the reason.
    """
    with writing(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
    kind = f"kind {modality.kind!r}"
    with _writing_by_plugin(f"{kind}: write of {stem}", stem):
        file = modality.write(x, stem)
    with _writing_by_plugin(f"{kind}: preview of {stem}", stem):
        previews = modality.preview(x, stem)
    cell = item_cell(modality, x, str(stem)) if modality.inline else None
    return cell, [file, *previews]


def item_cell(modality: Modality, x: Tensor, name: str) -> str:
    """The manifest cell of an item of an inline modality; errors name the item by `name`."""
    with plugin_call(f"kind {modality.kind!r}: cell of {name}"):
        return modality.cell(x)


def json_cell(modality: Modality, cell: str) -> str | int | float:
    """The cell of an inline modality in a JSONL file: a number where the modality reads a number.

    The text "12" of a modality of texts stays a text.
    """
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    if type(value) not in JSON_NUMBERS:
        return cell
    with plugin_call(f"kind {modality.kind!r}: read of {cell!r}"):
        raw = modality.read(cell)
    return value if np.asarray(raw).dtype.kind in "iuf" else cell


@contextmanager
def _writing_by_plugin(description: str, stem: Path) -> Iterator[None]:
    try:
        with plugin_call(description):
            yield
    except PluginError as error:
        cause = error.__cause__
        with writing(stem):
            # A file that is not found is one that the plugin reads.
            if isinstance(cause, OSError) and cause.errno != errno.ENOENT:
                raise cause from None
            # The libraries that plugins write with have errors of their own for a full disk.
            probe(stem.parent)
        raise
