"""A look at the data of a run: a few items of each modality, and how long it takes to read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Shaped
from torch import Tensor

from mld.config.spec import Spec
from mld.data.columns import (
    PEEK_ITEMS,
    Column,
    ColumnItems,
    ColumnSink,
    declared_faults,
    open_split,
)
from mld.data.faults import Fault, InvalidItemsError
from mld.data.loading import (
    INVALID_ADVICE,
    Data,
    SplitRows,
    fit_columns,
    load_fitted_modalities,
    modalities_of,
)
from mld.data.modality_columns import Fit, fit_column
from mld.data.packed_items import Items
from mld.data.read_ahead import ReadAhead, Value
from mld.runtime.compute import limited_threads
from mld.runtime.progress import Clock
from mld.storage.run_dir import RunDir
from mld_core import SPLITS, DataError, Dataset, Modality, Registry


@dataclass(frozen=True)
class ReadSeconds:
    """How long reading a modality takes.

    Args:
        start: once, as to load libraries.
        fit, read: each item, to be seen by `fit` and to be read.
    """

    start: float
    fit: float
    read: float


@dataclass(frozen=True)
class Peek:
    """A few training items of each modality, each in its place without regard to the others'.

    Args:
        modalities: fitted to these items alone, unless a run has fitted them to all.
        is_fitted: whether a run has.
        items: without modalities of which none of the first can be used.
        seconds: of reading, by modality.
    """

    dataset: Dataset
    modalities: Mapping[str, Modality]
    is_fitted: bool
    items: Mapping[str, Items]
    seconds: Mapping[str, ReadSeconds]

    def data(self, count: int) -> Data:
        """So many complete rows, with arbitrary labels, in every split of a dataset.

        Items repeat if they are too few.
        """
        items = {
            name: items.select(torch.arange(count) % len(items))
            for name, items in self.items.items()
        }
        classes = len(self.dataset.classes)
        rows = SplitRows(
            ids=tuple(f"row-{row}" for row in range(count)),
            items=items,
            present=torch.ones(count, len(items), dtype=torch.bool),
            labels=torch.arange(count) % classes if classes else None,
        )
        return Data.of(self.dataset, self.modalities, dict.fromkeys(SPLITS, rows))


def peek(
    spec: Spec,
    registry: Registry,
    dataset: Dataset,
    fitted_by: RunDir | None = None,
    known: Mapping[str, Fit] = MappingProxyType({}),
    clock: Clock = time.perf_counter,
) -> Peek:
    """Fit modalities to a few training items of each, and read these.

    InvalidItemsError with those that cannot be used, and with all that the dataset knows without
    reading them, unless the run goes on without them.

    Args:
        fitted_by: a run that has fitted the modalities to all rows.
        known: what some of them have learnt in another run.
    """
    first = _FirstFits(clock)
    fits = fit_columns(spec, dataset, registry, PEEK_ITEMS, first)
    modalities = modalities_of(spec, registry, {**fits, **known})
    if fitted_by is not None:
        modalities = load_fitted_modalities(spec, registry, fitted_by)
    items: dict[str, Items] = {}
    seconds: dict[str, ReadSeconds] = {}
    faults: dict[tuple[str, str], Fault] = {}
    for name, modality in modalities.items():
        split = open_split(dataset, "train", modalities, PEEK_ITEMS)
        column = Column(split, "train", name, dataset.kind, PEEK_ITEMS, fits[name].rejected)
        start = clock()
        fit_column(column, type(modality), modality.config)
        fitted_at = clock()
        with limited_threads(1):
            read = column.load(modality, f"read train {name}", _FirstItems(len(split.ids)))
        if not read.count:
            raise DataError(f"the train split has no item of modality {name!r}")
        read_at = clock()
        fit_seconds = fitted_at - start
        seconds[name] = ReadSeconds(
            max(0.0, first.seconds[name] - fit_seconds),
            fit_seconds / read.count,
            (read_at - fitted_at) / read.count,
        )
        faults |= {(name, fault.row): fault for fault in read.faults}
        if read.packed is None:
            continue
        items[name] = Items(modality, read.packed, torch.arange(int(read.present.sum())))
    for each in SPLITS:
        declared = declared_faults(open_split(dataset, each, modalities), each, modalities)
        faults |= {(fault.modality, fault.row): fault for fault in declared}
    if faults and spec.data.on_invalid == "error":
        raise InvalidItemsError([*faults.values()], {}, INVALID_ADVICE)
    return Peek(dataset, modalities, fitted_by is not None, items, seconds)


class _FirstFits(ReadAhead):
    """Nothing is read ahead; measures the first fit of each modality, which loads its libraries.

    Attributes:
        seconds: by modality.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__({})
        self.seconds: dict[str, float] = {}
        self._clock = clock

    def result(self, name: str, step: str, compute: Callable[[], Value]) -> Value:
        """What `compute` returns."""
        start = self._clock()
        value = compute()
        self.seconds[name] = self._clock() - start
        return value


class _FirstItems(ColumnSink):
    """Keeps the few items that are read, however many rows there are."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self._packed: list[Tensor] = []

    def _keep(self, packed: Shaped[Tensor, " one *packed"]) -> None:
        self._packed.append(packed)

    def finish(self) -> ColumnItems:
        """The items read."""
        packed = torch.cat(self._packed) if self._packed else None
        return ColumnItems(packed, self.present, self.faults)
