"""One column of a split: the raw data of one modality, read and validated row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mld.data.messages import recorded_messages
from mld.runtime.progress import with_progress
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
from mld_core.errors import MAX_ERRORS_SHOWN, first_errors

PEEK_ITEMS = 64
"""Items of each modality that a look at the training split reads."""

PLUGIN_ERRORS = (MLDError, ValueError, OSError)
"""What a plugin may raise about its settings or an item; anything else breaks the contract."""


@dataclass(frozen=True)
class ColumnItems:
    """The items of one column.

    Args:
        items: zeros where missing; None if there is none.
        present: whether a row has an item.
        errors: of the rows that cannot be used.
    """

    items: Shaped[Tensor, " row *item"] | None
    present: Bool[Tensor, " row"]
    errors: Sequence[str]


@dataclass(frozen=True)
class Column:
    """One column of a split, read row by row; iterates over its raw data without missing cells.

    Args:
        split: of the dataset.
        name: of the column, which is the modality's name in the spec.
        dataset: the dataset's kind, for error messages.
        max_items: at most so many items are read; None for all.
    """

    split: Split
    name: str
    dataset: str
    max_items: int | None = None

    def __iter__(self) -> Iterator[Any]:
        """The raw data. DataError after the last row with all rows that cannot be read."""
        errors: list[str] = []
        for _, raw in self._rows(f"fit {self.name}", self._read, errors, {}):
            yield raw
        if errors:
            raise DataError(format_item_errors("the train split", errors))

    def fit_errors(self, fit: Callable[[Iterable[Any]], object]) -> list[str]:
        """Rows that cannot be read, or to which alone `fit` raises a ValueError or OSError.

        Empty if it raises the same error for every row, which is then no fault of the row.
        """

        def read_and_fit(row: int) -> Any:
            raw = self._read(row)
            if raw is not None:
                try:
                    fit([raw])
                except MLDError:
                    return raw
                except (ValueError, OSError) as error:
                    reasons.append(str(error))
                    raise
            return raw

        reasons: list[str] = []
        errors: list[str] = []
        usable = sum(1 for _ in self._rows(f"fit {self.name}", read_and_fit, errors, {}))
        return errors if usable or len({*reasons}) > 1 or len(reasons) < len(errors) else []

    def load(self, modality: Modality, label: str) -> ColumnItems:
        """All items of a fitted modality; `label` as for `items`."""
        items: Tensor | None = None
        present = torch.zeros(len(self.split.ids), dtype=torch.bool)
        errors: list[str] = []
        for row, x in self.items(modality, errors, label):
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
        return ColumnItems(items, present, errors)

    def items(
        self, modality: Modality, errors: list[str], label: str
    ) -> Iterator[tuple[int, Shaped[Tensor, "*item"]]]:
        """Each row that has an item of a fitted modality, with the item.

        A row that cannot be read or preprocessed is appended to `errors`, and the others are still
        read. Warnings are issued after the last row, each once with its first row. `label` is that
        of the progress.
        """
        warned: dict[str, list[int]] = {}
        yield from self._rows(label, partial(self._item, modality), errors, warned)
        for message, (row, *more) in islice(warned.items(), MAX_ERRORS_SHOWN):
            warnings.warn(f"{self._cell_name(row)}{_and_more(len(more))}: {message}", stacklevel=2)
        if (hidden := len(warned) - MAX_ERRORS_SHOWN) > 0:
            warnings.warn(f"modality {self.name!r}: {hidden} more warnings", stacklevel=2)

    def _rows(
        self,
        label: str,
        read: Callable[[int], Any],
        errors: list[str],
        warned: dict[str, list[int]],
    ) -> Iterator[tuple[int, Any]]:
        """Each row for which `read` returns anything but None, with what it returns.

        Rows that cannot be read are appended to `errors`, and the rows of each warning to `warned`.
        """
        count = 0
        for row in with_progress(label, range(len(self.split.ids))):
            if count == self.max_items:
                return
            try:
                with recorded_messages() as messages:
                    value = read(row)
            except (ValueError, OSError) as error:
                errors.append(f"{self._cell_name(row)}: {error}")
                count += 1
                continue
            for message in messages:
                warned.setdefault(message, []).append(row)
            if value is not None:
                count += 1
                yield row, value

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


def open_split(
    dataset: Dataset, name: SplitName, modalities: Iterable[str], peek_rows: int | None = None
) -> Split:
    """A dataset's split, or its `peek` at some rows, checked against the contract."""
    call = f"split({name!r})" if peek_rows is None else f"peek({name!r}, {peek_rows})"
    try:
        with plugin_call(f"kind {dataset.kind!r}: {call}", passes=PLUGIN_ERRORS):
            split = dataset.split(name) if peek_rows is None else dataset.peek(name, peek_rows)
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
        if split.present is not None and len(split.present.get(name, ())) != rows:
            return f"has {rows} ids, but does not say of as many whether {name!r} is present"
    if split.labels is None:
        return ""
    if len(split.labels) != rows:
        return f"has {rows} ids, but {len(split.labels)} labels"
    for label in split.labels:
        if not -1 <= label < classes:
            return f"has the label {label}, but there are {classes} classes"
    return ""


def _and_more(rows: int) -> str:
    return f" and {rows:,} more row{'s' * (rows > 1)}" if rows else ""


def format_item_errors(source: str, errors: list[str]) -> str:
    """A message that counts the invalid items of a source and lists the first ten."""
    count = "1 item" if len(errors) == 1 else f"{len(errors)} items"
    return "\n  ".join([f"{count} of {source} cannot be used:", *first_errors(errors)])
