"""One column of a split: the raw data of one modality, read and validated row by row."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from mld.runtime.progress import counting
from mld_core import (
    DataError,
    Dataset,
    MLDError,
    Modality,
    PluginError,
    Split,
    SplitName,
    plugin_call,
)
from mld_core.errors import first_errors

PROGRESS_MIN_ROWS = 1000
"""The fewest rows of a column for which reading shows its progress."""

PLUGIN_ERRORS = (MLDError, ValueError, OSError)
"""What a plugin may raise about its settings or an item; anything else breaks the contract."""


@dataclass(frozen=True)
class Column:
    """One column of a split, read row by row; iterates over its raw data without missing cells.

    Args:
        split: of the dataset.
        name: of the column, which is the modality's name in the spec.
        dataset: the dataset's kind, for error messages.
    """

    split: Split
    name: str
    dataset: str

    def __iter__(self) -> Iterator[Any]:
        for row in range(len(self.split.ids)):
            try:
                raw = self._read(row)
            except (ValueError, OSError) as error:
                message = f"{self._cell_name(row)}: {error}"
                raise DataError(format_item_errors("the train split", [message])) from error
            if raw is not None:
                yield raw

    def load(
        self, modality: Modality, present: Bool[Tensor, " row"], errors: list[str], label: str
    ) -> Tensor | None:
        """All items of a fitted modality as one tensor, zeros where missing; None if there is none.

        Sets `present` to True in place for each row with an item. A row that cannot be read or
        preprocessed is appended to `errors`, and the others are still read. `label` is that of the
        progress bar.
        """
        items: Tensor | None = None
        for row in _with_progress(len(self.split.ids), label):
            try:
                x = self._item(modality, row)
            except (ValueError, OSError) as error:
                errors.append(f"{self._cell_name(row)}: {error}")
                continue
            if x is None:
                continue
            if items is None:
                items = x.new_zeros((len(self.split.ids), *x.shape))
            if x.shape != items[0].shape or x.dtype != items.dtype:
                raise PluginError(
                    f"{self._preprocess_call(modality, row)} returned {tuple(x.shape)} {x.dtype}, "
                    f"but {tuple(items[0].shape)} {items.dtype} before: shape and dtype of an item "
                    "may depend only on config and facts"
                )
            items[row] = x
            present[row] = True
        return items

    def _item(self, modality: Modality, row: int) -> Tensor | None:
        raw = self._read(row)
        if raw is None:
            return None
        try:
            with plugin_call(self._preprocess_call(modality, row), passes=PLUGIN_ERRORS):
                x = modality.preprocess(raw)
                if not isinstance(x, Tensor):
                    raise TypeError(f"returned {type(x).__name__}, not a Tensor")
            if x.is_floating_point() and not x.isfinite().all():
                raise ValueError("holds NaN or infinity")
        except (ValueError, OSError) as error:
            value = f"{raw!r:.80}: " if isinstance(raw, str | Path) else ""
            raise ValueError(f"{value}{error}") from error
        return x

    def _read(self, row: int) -> Any:
        call = f"kind {self.dataset!r}: reading {self._cell_name(row)}"
        with plugin_call(call, passes=PLUGIN_ERRORS):
            return self.split.items[self.name][row]

    def _cell_name(self, row: int) -> str:
        return f"row {self.split.ids[row]!r}, modality {self.name!r}"

    def _preprocess_call(self, modality: Modality, row: int) -> str:
        return f"kind {modality.kind!r}: preprocess of {self._cell_name(row)}"


def open_split(dataset: Dataset, name: SplitName, modalities: Iterable[str]) -> Split:
    """A dataset's split, checked against the contract."""
    call = f"split({name!r})"
    try:
        with plugin_call(f"kind {dataset.kind!r}: {call}", passes=PLUGIN_ERRORS):
            split = dataset.split(name)
    except (ValueError, OSError) as error:
        raise DataError(f"dataset {dataset.kind!r}: {call}: {error}") from error
    violation = _contract_violation(split, len(dataset.classes), modalities)
    if violation:
        raise PluginError(f"kind {dataset.kind!r}: {call} {violation}")
    return split


def _contract_violation(split: Split, classes: int, modalities: Iterable[str]) -> str:
    """How a split breaks the contract; "" if it does not."""
    rows = len(split.ids)
    if len(set(split.ids)) < rows:
        return "repeats an id"
    for name in modalities:
        if name not in split.items:
            return f"has no column {name!r}"
        if len(split.items[name]) != rows:
            return f"has {rows} ids, but {len(split.items[name])} items in column {name!r}"
    if split.labels is None:
        return ""
    if len(split.labels) != rows:
        return f"has {rows} ids, but {len(split.labels)} labels"
    for label in split.labels:
        if not -1 <= label < classes:
            return f"has the label {label}, but there are {classes} classes"
    return ""


def format_item_errors(source: str, errors: list[str]) -> str:
    """A message that counts the invalid items of a source and lists the first ten."""
    count = "1 item" if len(errors) == 1 else f"{len(errors)} items"
    return "\n  ".join([f"{count} of {source} cannot be used:", *first_errors(errors)])


def _with_progress(rows: int, label: str) -> Iterator[int]:
    """The row numbers; if there are many, with a progress bar on a terminal's stderr."""
    if rows < PROGRESS_MIN_ROWS or not sys.stderr.isatty():
        yield from range(rows)
        return
    with counting(label, rows) as show_progress:
        for row in range(rows):
            yield row
            show_progress(row + 1)
