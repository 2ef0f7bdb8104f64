"""One column of a split: the raw data of one modality, read and validated row by row."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mld.data.faults import Fault
from mld.data.messages import recorded_messages
from mld.data.stored_rows import MappedTensor
from mld.runtime.progress import with_progress
from mld_core import (
    DataError,
    Dataset,
    MLDError,
    Modality,
    PluginError,
    ReadError,
    Split,
    SplitName,
    plugin_call,
)
from mld_core.errors import MAX_ERRORS_SHOWN

PEEK_ITEMS = 64
"""Items of each modality that a look at the training split reads."""

PLUGIN_ERRORS = (MLDError, ValueError, OSError)
"""What a plugin may raise about its settings or an item; anything else breaks the contract."""


@dataclass(frozen=True)
class ColumnItems:
    """The items of one column.

    Args:
        packed: those of the rows that have one, in their order; None if none has.
        present: whether a row has an item.
        faults: of the rows that cannot be used.
        stored_before: how many items were on disk already.
    """

    packed: Shaped[Tensor, " stored *packed"] | MappedTensor | None
    present: Bool[Tensor, " row"]
    faults: Sequence[Fault]
    stored_before: int = 0

    @property
    def count(self) -> int:
        """The number of items, with those that cannot be used."""
        return int(self.present.sum()) + len(self.faults)


class ColumnSink(ABC):
    """Where the items of a column are kept while it is read.

    Args:
        rows: of the column.

    Attributes:
        next_row: the first row that has not been read yet.
        present: whether each row has an item; False for rows that have not been read.
        faults, warned: of the rows read so far; see `Column.items`.
        item: shape and dtype of an item, in words; "" before the first.
    """

    def __init__(self, rows: int) -> None:
        self.next_row = 0
        self.present = torch.zeros(rows, dtype=torch.bool)
        self.faults: list[Fault] = []
        self.warned: dict[str, list[int]] = {}
        self.item = ""

    def add(self, row: int, packed: Shaped[Tensor, " one *packed"]) -> None:
        """Keep the item of a row; no row before it is still to be read."""
        self._keep(packed)
        self.present[row] = True
        self.next_row = row + 1

    @abstractmethod
    def _keep(self, packed: Shaped[Tensor, " one *packed"]) -> None: ...

    @abstractmethod
    def finish(self) -> ColumnItems:
        """All items, when the last row has been read."""


class ColumnInMemory(ColumnSink):
    """Keeps items in memory."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self._packed: Tensor | None = None
        self._count = 0

    def _keep(self, packed: Shaped[Tensor, " one *packed"]) -> None:
        if self._packed is None:
            # Takes no memory before it is written to.
            self._packed = packed.new_empty((len(self.present), *packed.shape[1:]))
        self._packed[self._count] = packed[0]
        self._count += 1

    def finish(self) -> ColumnItems:
        """The items read."""
        packed = None if self._packed is None else self._packed[: self._count]
        return ColumnItems(packed, self.present, self.faults)


@dataclass(frozen=True)
class Column:
    """One column of a split, read row by row; iterates over its raw data.

    Missing cells and those that cannot be read are left out.

    Args:
        split: of the dataset.
        split_name: for error messages.
        name: of the column, which is the modality's name in the spec.
        dataset: the dataset's kind, for error messages.
        max_items: at most so many items are read; None for all.
        rejected: rows whose item the modality cannot be fitted to, and why, by id.
    """

    split: Split
    split_name: str
    name: str
    dataset: str
    max_items: int | None = None
    rejected: Mapping[str, Fault] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        """The raw data."""
        return (raw for _, raw in self._rows(f"fit {self.name}", self._read, [], {}))

    def faults_of_fit(self, fit: Callable[[Iterable[Any]], object]) -> dict[str, Fault]:
        """By row id, those to which alone `fit` raises a ValueError or OSError.

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
                    rejected[self.split.ids[row]] = self._fault(row, _with_value(error, raw))
                    return None
            return raw

        rejected: dict[str, Fault] = {}
        usable = sum(1 for _ in self._rows(f"fit {self.name}", read_and_fit, [], {}))
        reasons = {fault.reason for fault in rejected.values()}
        return rejected if usable or len(reasons) > 1 else {}

    def faults_of_reading(self) -> list[Fault]:
        """Of the rows that cannot be read."""
        faults: list[Fault] = []
        for _ in self._rows(f"read {self.name}", self._read, faults, {}):
            pass
        return faults

    def load(self, modality: Modality, label: str, sink: ColumnSink | None = None) -> ColumnItems:
        """All items of a fitted modality; `label` as for `items`.

        Args:
            sink: where they are kept, in memory by default; rows that it has are not read again.
        """
        sink = sink or ColumnInMemory(len(self.split.ids))
        for row, x in self.items(modality, sink.faults, label, sink.next_row, sink.warned):
            seen = f"{tuple(x.shape)} {x.dtype}"
            if seen != (sink.item or seen):
                raise PluginError(
                    f"{self._preprocess_call(modality, row)} returned {seen}, but {sink.item} "
                    "before: shape and dtype of an item may depend only on config and facts"
                )
            sink.item = seen
            with plugin_call(f"kind {modality.kind!r}: pack of {self._cell_name(row)}"):
                packed = modality.pack(x[None])
            sink.add(row, packed)
        return sink.finish()

    def items(
        self,
        modality: Modality,
        faults: list[Fault],
        label: str,
        first: int = 0,
        warned: dict[str, list[int]] | None = None,
    ) -> Iterator[tuple[int, Shaped[Tensor, "*item"]]]:
        """Each row that has an item of a fitted modality, with the item.

        One that cannot be read or preprocessed is appended to `faults`, and the others are still
        read. Warnings are issued after the last row, each once with its first row.

        Args:
            label: of the progress.
            first: rows before this one are left out.
            warned: the rows of each warning, to which those of the rows read are added.
        """
        warned = {} if warned is None else warned
        yield from self._rows(label, partial(self._item, modality), faults, warned, first)
        for message, (row, *more) in islice(warned.items(), MAX_ERRORS_SHOWN):
            warnings.warn(f"{self._cell_name(row)}{_and_more(len(more))}: {message}", stacklevel=2)
        if (hidden := len(warned) - MAX_ERRORS_SHOWN) > 0:
            warnings.warn(f"modality {self.name!r}: {hidden} more warnings", stacklevel=2)

    def _rows(
        self,
        label: str,
        read: Callable[[int], Any],
        faults: list[Fault],
        warned: dict[str, list[int]],
        first: int = 0,
    ) -> Iterator[tuple[int, Any]]:
        """Each row for which `read` returns anything but None, with what it returns.

        Rows that cannot be read are appended to `faults`, and the rows of each warning to `warned`.
        """
        count = 0
        for row in with_progress(label, range(first, len(self.split.ids))):
            if count == self.max_items:
                return
            if rejected := self.rejected.get(self.split.ids[row]):
                faults.append(rejected)
                count += 1
                continue
            try:
                with recorded_messages() as messages:
                    value = read(row)
            except (ValueError, OSError) as error:
                faults.append(self._fault(row, error))
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
            raise _with_value(error, raw) from error
        return x

    def _read(self, row: int) -> Any:
        if reason := invalid_items(self.split, self.name).get(row):
            raise ValueError(reason)
        call = f"kind {self.dataset!r}: reading {self._cell_name(row)}"
        with plugin_call(call, passes=PLUGIN_ERRORS):
            return self.split.items[self.name][row]

    def _fault(self, row: int, error: ValueError | OSError) -> Fault:
        return Fault.of(error, self.split_name, self.split.ids[row], self.name)

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
        if not all(0 <= row < rows for row in invalid_items(split, name)):
            return f"has {rows} ids, but an invalid item of {name!r} beyond"
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


def invalid_items(split: Split, column: str) -> Mapping[int, str]:
    """The rows of a column whose item is known to be unusable before it is read, and why."""
    return (split.invalid or {}).get(column, {})


def declared_faults(split: Split, name: SplitName, modalities: Iterable[str]) -> list[Fault]:
    """Of the rows of a split that are known to be unusable before they are read."""
    return [
        Fault(name, split.ids[row], modality, "", reason)
        for modality in modalities
        for row, reason in invalid_items(split, modality).items()
    ]


def _with_value(error: ValueError | OSError, raw: Any) -> ValueError | OSError:
    """An error about a datum; with the datum, if that is a text."""
    return ReadError(f"{raw!r:.80}", error) if isinstance(raw, str | Path) else error


def _and_more(rows: int) -> str:
    return f" and {rows:,} more row{'s' * (rows > 1)}" if rows else ""
