"""From a spec to tensors: the dataset, its fitted modalities, and the rows of each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mld.config.plugin_sections import OnInvalid
from mld.config.spec import Spec
from mld.data.columns import PLUGIN_ERRORS, Column, ColumnItems, open_split
from mld.data.faults import Fault, InvalidItemsError
from mld.data.item_memory import first_item_bytes
from mld.data.item_places import IN_MEMORY, ItemPlaces
from mld.data.missingness import DatasetWithMissingCells
from mld.data.modality_columns import Fit, build_modality, fit_column, load_column
from mld.data.packed_items import Items
from mld.data.read_ahead import FIT, NOTHING_READ, ReadAhead
from mld.data.renamed_columns import DatasetWithRenamedColumns
from mld.storage.run_dir import RunDir
from mld_core import (
    SPLITS,
    DataError,
    Dataset,
    Modality,
    Registry,
    SpecError,
    Split,
    SplitName,
    did_you_mean,
    plugin_call,
)
from mld_core.diffusion.latent_layout import LatentLayout

INVALID_ADVICE = (
    "correct them, or leave out their rows with data.on_invalid: drop, or their cells alone with "
    "data.on_invalid: empty"
)
"""What can be done about items that cannot be used."""


@dataclass(frozen=True)
class SplitRows:
    """The rows of one split, whose items become tensors when they are used.

    Args:
        ids: one per row, unique.
        items: by modality.
        present: True where an item is recorded; columns in the spec's order; at least one per row.
        labels: class index per row, −1 where a row has none; None without labels.
        dropped: number of the split's rows that were dropped because every cell is missing.
        faults: of the items that cannot be used; their cells or rows are left out.
        read: number of items by modality, with those that cannot be used.
        stored_before: how many items of each modality were on disk already.
    """

    ids: tuple[str, ...]
    items: Mapping[str, Items]
    present: Bool[Tensor, "row modality"]
    labels: Int64[Tensor, " row"] | None
    dropped: int = 0
    faults: tuple[Fault, ...] = ()
    read: Mapping[str, int] = field(default_factory=dict)
    stored_before: Mapping[str, int] = field(default_factory=dict)


def open_dataset(spec: Spec, registry: Registry) -> Dataset:
    """The spec's dataset. SpecError if its columns do not match the spec's modalities."""
    modalities = load_modalities(spec, registry, {})
    by_column = {spec.columns[name]: modality for name, modality in modalities.items()}
    plugin_class = registry.dataset(spec.data.kind)
    call = f"kind {plugin_class.kind!r}"
    config: Any = spec.data.config
    try:
        with plugin_call(f"{call}: the constructor", passes=PLUGIN_ERRORS):
            dataset = plugin_class(config, by_column, spec.seed)
        with plugin_call(f"{call}: columns", passes=PLUGIN_ERRORS):
            columns = dict(dataset.columns)
    except (ValueError, OSError) as error:
        raise DataError(f"dataset {plugin_class.kind!r}: {error}") from error
    mismatches = {
        name: _column_mismatch(spec.columns[name], modality.kind, plugin_class.kind, columns)
        for name, modality in modalities.items()
    }
    if errors := [f"modalities.{name}: {error}" for name, error in mismatches.items() if error]:
        raise SpecError("\n".join(errors))
    if any(name != column for name, column in spec.columns.items()):
        dataset = DatasetWithRenamedColumns(dataset, modalities, spec.columns)
    return DatasetWithMissingCells(dataset, spec.data.missing) if spec.data.missing else dataset


def _column_mismatch(name: str, kind: str, dataset: str, columns: Mapping[str, str]) -> str:
    """Why a modality cannot be read from the columns of a dataset; "" if it can."""
    if name not in columns:
        available = f"(columns: {', '.join(columns)}){did_you_mean(name, columns)}"
        return f"dataset {dataset!r} has no column {name!r} {available}"
    if columns[name] != kind:
        return f"is of kind {kind!r}, but that column of dataset {dataset!r} is {columns[name]!r}"
    return ""


def load_modalities(
    spec: Spec, registry: Registry, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Modality]:
    """The spec's modalities with the facts of an earlier fit; without facts, not fitted."""
    return {
        name: build_modality(name, registry.modality(section.kind), section.config, facts.get(name))
        for name, section in spec.modalities.items()
    }


def load_fitted_modalities(spec: Spec, registry: Registry, run_dir: RunDir) -> dict[str, Modality]:
    """The spec's modalities as a run has fitted them."""
    facts = {name: run_dir.read_json(run_dir.modality_facts(name)) for name in spec.modalities}
    return load_modalities(spec, registry, facts)


def layout_of(modalities: Mapping[str, Modality]) -> LatentLayout:
    """The layout of the joint latent: the modalities in the spec's order."""
    return LatentLayout({name: modality.latent_shape for name, modality in modalities.items()})


def fit_columns(
    spec: Spec,
    dataset: Dataset,
    registry: Registry,
    max_items: int | None = None,
    ahead: ReadAhead = NOTHING_READ,
    known: Mapping[str, Fit] = MappingProxyType({}),
) -> dict[str, Fit]:
    """What each of the spec's modalities learns from the training split.

    InvalidItemsError if one of them has no item that can be used.

    Args:
        max_items: only from so many items of each, as the dataset's `peek` gives them.
        ahead: modalities that other processes fit.
        known: what some of them have learnt in another run.
    """
    split = open_split(dataset, "train", spec.modalities, max_items)
    fits: dict[str, Fit] = {}
    faults: list[Fault] = []
    for name, section in spec.modalities.items():
        if name in known:
            fits[name] = known[name]
            continue
        fit = partial(
            fit_column,
            Column(split, "train", name, dataset.kind, max_items),
            registry.modality(section.kind),
            section.config,
        )
        try:
            fits[name] = ahead.result(name, FIT, fit)
        except InvalidItemsError as error:
            faults += error.faults
    if faults:
        raise InvalidItemsError(faults, {})
    return fits


def fit_modalities(spec: Spec, dataset: Dataset, registry: Registry) -> dict[str, Modality]:
    """The spec's modalities, each with the facts that it learns from the training split."""
    return modalities_of(spec, registry, fit_columns(spec, dataset, registry))


def modalities_of(spec: Spec, registry: Registry, fits: Mapping[str, Fit]) -> dict[str, Modality]:
    """The spec's modalities with what they have learnt."""
    return load_modalities(spec, registry, {name: fit.facts for name, fit in fits.items()})


class Data:
    """The rows of a dataset, with items of fitted modalities.

    A split is loaded when first used, and then kept; a finished run loads none.

    Args:
        ahead: columns that other processes read.
        on_invalid: what to do with items that cannot be used.
        rejected: by modality, the training rows that it could not be fitted to.
        places: where items are kept.
    """

    def __init__(
        self,
        dataset: Dataset,
        modalities: Mapping[str, Modality],
        ahead: ReadAhead = NOTHING_READ,
        on_invalid: OnInvalid = "error",
        rejected: Mapping[str, Mapping[str, Fault]] = MappingProxyType({}),
        places: ItemPlaces = IN_MEMORY,
    ) -> None:
        self._dataset = dataset
        self._modalities = dict(modalities)
        self._ahead = ahead
        self._on_invalid = on_invalid
        self.rejected = rejected
        self._places = places
        self._item_bytes: dict[str, int] = {}
        self._splits: dict[SplitName, SplitRows] = {}

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        modalities: Mapping[str, Modality],
        splits: Mapping[SplitName, SplitRows],
    ) -> Data:
        """Rows that have been read already."""
        data = cls(dataset, modalities)
        data._splits.update(splits)
        return data

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class index; empty without labels."""
        return tuple(self._dataset.classes)

    @property
    def loaded(self) -> Sequence[SplitRows]:
        """The splits that have been used."""
        return [*self._splits.values()]

    @property
    def train(self) -> SplitRows:
        """The training split; has at least one item of every modality."""
        return self.split("train")

    @property
    def validation(self) -> SplitRows:
        """The validation split."""
        return self.split("validation")

    @property
    def test(self) -> SplitRows:
        """The test split."""
        return self.split("test")

    def split(self, name: SplitName) -> SplitRows:
        """A split by its name.

        InvalidItemsError with all items of all splits that cannot be used, if there are any in this
        one and they are errors.
        """
        if name not in self._splits:
            split, columns = self._read(name)
            faults = _faults(columns)
            if faults and self._on_invalid == "error":
                self._raise_all_faults(name, columns)
            self._splits[name] = self._assemble(name, split, columns)
        return self._splits[name]

    def _read(self, name: SplitName) -> tuple[Split, dict[str, ColumnItems]]:
        split = open_split(self._dataset, name, self._modalities)
        columns = {}
        for modality_name, modality in self._modalities.items():
            rejected = self.rejected.get(modality_name, {}) if name == "train" else {}
            column = Column(split, name, modality_name, self._dataset.kind, rejected=rejected)
            load = partial(self._load, column, modality)
            columns[modality_name] = self._ahead.result(modality_name, name, load)
        return split, columns

    def _load(self, column: Column, modality: Modality) -> ColumnItems:
        name = column.name
        if self._places.store is not None and name not in self._item_bytes:
            size = first_item_bytes(self._dataset, self._modalities, name, modality)
            self._item_bytes[name] = size
        return load_column(column, modality, self._places, self._item_bytes.get(name, 0))

    def _raise_all_faults(self, name: SplitName, columns: Mapping[str, ColumnItems]) -> NoReturn:
        """InvalidItemsError for all splits; one of them has been read."""
        faults: list[Fault] = []
        items: Counter[str] = Counter()
        for each in SPLITS:
            if each in self._splits:
                items.update(self._splits[each].read)
                continue
            others = columns if each == name else self._read(each)[1]
            faults += _faults(others)
            items.update({key: column.count for key, column in others.items()})
        raise InvalidItemsError(faults, items, INVALID_ADVICE)

    def _assemble(
        self, name: SplitName, split: Split, columns: Mapping[str, ColumnItems]
    ) -> SplitRows:
        """The rows of a split, without those that are empty or to be dropped."""
        present = torch.stack([column.present for column in columns.values()], dim=1)
        nonempty = present.any(dim=1)
        dropped = int((~nonempty).sum())
        faults = _faults(columns)
        if self._on_invalid == "drop":
            invalid = {fault.row for fault in faults}
            valid = torch.tensor([row_id not in invalid for row_id in split.ids], dtype=torch.bool)
            dropped = int((~nonempty & valid).sum())
            nonempty &= valid
        if name == "train" and not nonempty.any():
            raise DataError("the train split has no row with anything recorded")
        labels = None
        if split.labels is not None:
            labels = torch.tensor(list(split.labels), dtype=torch.int64)[nonempty]
        return SplitRows(
            ids=tuple(split.ids[row] for row in nonempty.nonzero().flatten().tolist()),
            items={
                modality: self._items(modality, name, column).select(nonempty)
                for modality, column in columns.items()
            },
            present=present[nonempty],
            labels=labels,
            dropped=dropped,
            faults=tuple(faults),
            read={modality: column.count for modality, column in columns.items()},
            stored_before={name: column.stored_before for name, column in columns.items()},
        )

    def _items(self, name: str, split: SplitName, column: ColumnItems) -> Items:
        """The items of a column; if it has none, with the shape of the training items."""
        packed = column.packed
        if packed is None and split == "train":
            raise DataError(f"the train split has no item of modality {name!r}")
        if packed is None:
            packed = self.train.items[name].stored[:0]
        return Items.of(self._modalities[name], packed, column.present)


def _faults(columns: Mapping[str, ColumnItems]) -> list[Fault]:
    return [fault for column in columns.values() for fault in column.faults]


def all_faults(data: Data) -> tuple[list[Fault], Counter[str]]:
    """The items of all splits that cannot be used, and the number of all items by modality."""
    splits = [data.split(name) for name in SPLITS]
    items: Counter[str] = Counter()
    for split in splits:
        items.update(split.read)
    return [fault for split in splits for fault in split.faults], items
