"""From a spec to tensors: the dataset, its fitted modalities, and the rows of each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from mld.config.spec import Spec
from mld.data.columns import PLUGIN_ERRORS, Column, format_item_errors, open_split
from mld.data.missingness import DatasetWithMissingCells
from mld.data.modality_columns import build_modality, fit_column, load_column
from mld.data.read_ahead import FIT, NOTHING_READ, ReadAhead
from mld.storage.run_dir import RunDir
from mld_core import (
    DataError,
    Dataset,
    Modality,
    Registry,
    SpecError,
    SplitName,
    did_you_mean,
    plugin_call,
)
from mld_core.diffusion.latent_layout import LatentLayout


@dataclass(frozen=True)
class SplitTensors:
    """The rows of one split as tensors.

    Args:
        ids: one per row, unique.
        items: by modality; zeros where missing.
        present: True where an item is recorded; columns in the spec's order; at least one per row.
        labels: class index per row, −1 where a row has none; None without labels.
        dropped: number of the split's rows that were dropped because every cell is missing.
    """

    ids: tuple[str, ...]
    items: Mapping[str, Shaped[Tensor, " row *item"]]
    present: Bool[Tensor, "row modality"]
    labels: Int64[Tensor, " row"] | None
    dropped: int = 0


def open_dataset(spec: Spec, registry: Registry) -> Dataset:
    """The spec's dataset. SpecError if its columns do not match the spec's modalities."""
    modalities = load_modalities(spec, registry, {})
    plugin_class = registry.dataset(spec.data.kind)
    call = f"kind {plugin_class.kind!r}"
    config: Any = spec.data.config
    try:
        with plugin_call(f"{call}: the constructor", passes=PLUGIN_ERRORS):
            dataset = plugin_class(config, modalities, spec.seed)
        with plugin_call(f"{call}: columns", passes=PLUGIN_ERRORS):
            columns = dict(dataset.columns)
    except (ValueError, OSError) as error:
        raise DataError(f"dataset {plugin_class.kind!r}: {error}") from error
    mismatches = {
        name: _column_mismatch(name, modality.kind, plugin_class.kind, columns)
        for name, modality in modalities.items()
    }
    if errors := [f"modalities.{name}: {error}" for name, error in mismatches.items() if error]:
        raise SpecError("\n".join(errors))
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
    return LatentLayout({name: modality.latent_dim for name, modality in modalities.items()})


def fit_modalities(
    spec: Spec,
    dataset: Dataset,
    registry: Registry,
    max_items: int | None = None,
    ahead: ReadAhead = NOTHING_READ,
) -> dict[str, Modality]:
    """The spec's modalities, each with the facts that it learns from the training split.

    Args:
        max_items: only from so many items of each, as the dataset's `peek` gives them.
        ahead: modalities that other processes fit.
    """
    split = open_split(dataset, "train", spec.modalities, max_items)
    facts = {}
    for name, section in spec.modalities.items():
        fit = partial(
            fit_column,
            Column(split, name, dataset.kind, max_items),
            registry.modality(section.kind),
            section.config,
        )
        facts[name] = ahead.result(name, FIT, fit)
    return load_modalities(spec, registry, facts)


class Data:
    """The rows of a dataset as tensors of fitted modalities.

    A split is loaded when first used, and then kept in memory; a finished run loads none.

    Args:
        ahead: columns that other processes read.
    """

    def __init__(
        self,
        dataset: Dataset,
        modalities: Mapping[str, Modality],
        ahead: ReadAhead = NOTHING_READ,
    ) -> None:
        self._dataset = dataset
        self._modalities = dict(modalities)
        self._ahead = ahead
        self._splits: dict[SplitName, SplitTensors] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class index; empty without labels."""
        return tuple(self._dataset.classes)

    @property
    def train(self) -> SplitTensors:
        """The training split; has at least one item of every modality."""
        return self.split("train")

    @property
    def validation(self) -> SplitTensors:
        """The validation split."""
        return self.split("validation")

    @property
    def test(self) -> SplitTensors:
        """The test split."""
        return self.split("test")

    def split(self, name: SplitName) -> SplitTensors:
        """A split by its name."""
        if name not in self._splits:
            self._splits[name] = self._load(name)
        return self._splits[name]

    def _load(self, name: SplitName) -> SplitTensors:
        split = open_split(self._dataset, name, self._modalities)
        items: dict[str, Tensor | None] = {}
        present = torch.zeros(len(split.ids), len(self._modalities), dtype=torch.bool)
        errors: list[str] = []
        for index, (modality_name, modality) in enumerate(self._modalities.items()):
            load = partial(load_column, split, name, self._dataset.kind, modality_name, modality)
            column = self._ahead.result(modality_name, name, load)
            items[modality_name], present[:, index] = column.items, column.present
            errors += column.errors
        if errors:
            raise DataError(format_item_errors(f"the {name} split", errors))
        nonempty = present.any(dim=1)
        if name == "train" and not nonempty.any():
            raise DataError("the train split has no row with anything recorded")
        labels = None
        if split.labels is not None:
            labels = torch.tensor(list(split.labels), dtype=torch.int64)[nonempty]
        return SplitTensors(
            ids=tuple(split.ids[row] for row in nonempty.nonzero().flatten().tolist()),
            items={
                modality: self._drop_empty_rows(modality, name, column, nonempty)
                for modality, column in items.items()
            },
            present=present[nonempty],
            labels=labels,
            dropped=int((~nonempty).sum()),
        )

    def _drop_empty_rows(
        self, modality: str, split: SplitName, column: Tensor | None, nonempty: Bool[Tensor, " row"]
    ) -> Tensor:
        """The items of the nonempty rows; zeros shaped like the training items if it has none."""
        if column is not None:
            return column if nonempty.all() else column[nonempty]
        if split == "train":
            raise DataError(f"the train split has no item of modality {modality!r}")
        like = self.train.items[modality]
        return like.new_zeros((int(nonempty.sum()), *like.shape[1:]))
