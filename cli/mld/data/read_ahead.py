"""Reading ahead: processes fit modalities and read their columns side by side, before their use."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from pickle import PicklingError
from typing import Any, TypeVar

from torch import Tensor

from mld.data.columns import Column, ColumnItems, open_split
from mld.data.faults import Fault
from mld.data.item_memory import first_item_bytes
from mld.data.item_places import ItemPlaces
from mld.data.modality_columns import Fit, build_modality, fit_column, load_column
from mld.runtime.memory import available_memory
from mld.runtime.worker_pool import WorkerPool, load_shared
from mld.storage.files import load_tensors, save_tensors
from mld_core import SPLITS, Dataset, MLDError, Modality

FIT = "fit"
"""The step that fits a modality; those that read a column are called like their split."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class ModalityToRead:
    """A modality of a spec, whose columns are read.

    Args:
        fit: an earlier one; None if it is to be fitted.
    """

    plugin_class: type[Modality]
    config: Any
    fit: Fit | None = None


class ReadAhead:
    """What processes read of each modality; the results are those of reading it in this process.

    Args:
        outcomes: by modality, those of its steps.
    """

    def __init__(self, outcomes: Mapping[str, Future[dict[str, _Outcome]]]) -> None:
        self._outcomes = outcomes

    def result(self, name: str, step: str, compute: Callable[[], Value]) -> Value:
        """What a step of a modality returned, or raised, in its process; its warnings are issued.

        A step that the process has not done is computed in this one, as is one that is repeated.
        """
        outcomes = self._outcomes[name].result() if name in self._outcomes else {}
        if step not in outcomes:
            # What is written to stderr while this process reads counts as a warning of the row.
            wait(self._outcomes.values())
            return compute()
        outcome = outcomes.pop(step)
        for message in outcome.warnings:
            warnings.warn(message, stacklevel=2)
        if outcome.error is not None:
            raise outcome.error
        stored = isinstance(outcome.value, _StoredColumn)
        value: Value = outcome.value.load() if stored else outcome.value
        return value


NOTHING_READ = ReadAhead({})
"""Everything is read in this process."""


def read_ahead(
    dataset: Dataset,
    modalities: Mapping[str, ModalityToRead],
    places: ItemPlaces,
    pool: WorkerPool | None,
) -> ReadAhead:
    """Have the processes of a pool fit modalities and read all splits; does not wait for them.

    A dataset that cannot be sent to other processes is read in this one.

    Args:
        places: where items are kept.
    """
    if pool is None:
        return NOTHING_READ
    try:
        shared = pool.share((dataset, dict(modalities)))
    except PicklingError:
        return NOTHING_READ
    limits = _Limits(places, available_memory())
    return ReadAhead({name: pool.submit(_read, shared, name, limits) for name in modalities})


@dataclass(frozen=True)
class _Limits:
    """What a process is told: where items are kept, and the bytes of memory for them."""

    places: ItemPlaces
    available: int | None


@dataclass(frozen=True)
class _Outcome:
    """What a step has returned or raised, and warned of."""

    value: Any
    error: MLDError | None
    warnings: Sequence[str]


@dataclass(frozen=True)
class _StoredColumn:
    """The items of a column in a file, to be loaded into memory."""

    path: Path
    faults: Sequence[Fault]

    @classmethod
    def store(cls, column: ColumnItems, path: Path) -> _StoredColumn:
        packed = {"packed": column.packed} if isinstance(column.packed, Tensor) else {}
        save_tensors(path, {"present": column.present, **packed}, {})
        return cls(path, column.faults)

    def load(self) -> ColumnItems:
        """The items; deletes the file."""
        tensors, _ = load_tensors(self.path)
        self.path.unlink()
        return ColumnItems(tensors.get("packed"), tensors["present"], self.faults)


def _read(shared: Path, name: str, limits: _Limits) -> dict[str, _Outcome]:
    """In a worker: the outcomes of a modality's steps, up to the first that fails."""
    outcomes: dict[str, _Outcome] = {}
    # What raises or warns between the steps does so in the parent, too.
    with warnings.catch_warnings(record=True), suppress(MLDError, PicklingError):
        dataset, modalities = load_shared(shared)
        for step, outcome in _steps(dataset, modalities, name, limits, shared.parent):
            outcomes[step] = outcome
    return outcomes


def _steps(
    dataset: Dataset,
    modalities: Mapping[str, ModalityToRead],
    name: str,
    limits: _Limits,
    folder: Path,
) -> Iterator[tuple[str, _Outcome]]:
    plugin_class, config = modalities[name].plugin_class, modalities[name].config
    fit = modalities[name].fit
    column = Column(open_split(dataset, "train", modalities), "train", name, dataset.kind)
    if fit is None:
        outcome = _outcome(partial(fit_column, column, plugin_class, config))
        yield FIT, outcome
        if outcome.error is not None:
            return
        fit = outcome.value
    modality = build_modality(name, plugin_class, config, fit.facts)
    places, item_bytes = limits.places, first_item_bytes(dataset, modalities, name, modality)
    is_in_memory = not places.is_on_disk(item_bytes)
    # The parent refuses items that do not fit into memory, with the sizes of all modalities.
    size, available = places.rows * item_bytes, limits.available
    if is_in_memory and available is not None and size > available:
        return
    for split_name in SPLITS:
        if split_name == "train":
            column = replace(column, rejected=fit.rejected)
        else:
            split = open_split(dataset, split_name, modalities)
            column = Column(split, split_name, name, dataset.kind)
        outcome = _outcome(partial(load_column, column, modality, places, item_bytes))
        if outcome.error is not None:
            yield split_name, outcome
            return
        if is_in_memory:
            path = folder / f"{name}-{split_name}.safetensors"
            outcome = replace(outcome, value=_StoredColumn.store(outcome.value, path))
        yield split_name, outcome


def _outcome(step: Callable[[], Any]) -> _Outcome:
    value, error = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            value = step()
        except MLDError as raised:
            error = raised
    return _Outcome(value, error, [str(warning.message) for warning in caught])
