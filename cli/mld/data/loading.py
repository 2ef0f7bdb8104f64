"""From a spec to tensors: the dataset, its fitted modalities, and the rows of each split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from mld.config.spec import Spec
from mld.config.validation_errors import did_you_mean
from mld.data.columns import Column, PresentItems, format_item_errors, open_split, plugin_call
from mld.data.missingness import DatasetWithMissingCells
from mld_core import DataError, Dataset, Modality, PluginError, Registry, SpecError, SplitName
from mld_core.diffusion.latent_layout import LatentLayout


@dataclass(frozen=True)
class Rows:
    """The rows of one split as tensors.

    Args:
        ids: one per row, unique.
        items: by modality; zeros where missing.
        present: True where recorded, columns in the spec's order; no row is wholly missing.
        labels: class index per row, −1 where a row has none; None without labels.
        dropped: how many more rows the dataset has, with nothing recorded.
    """

    ids: tuple[str, ...]
    items: Mapping[str, Shaped[Tensor, " row *item"]]
    present: Bool[Tensor, "row modality"]
    labels: Int64[Tensor, " row"] | None
    dropped: int = 0


def open_dataset(spec: Spec, registry: Registry) -> Dataset:
    """The spec's dataset. SpecError where its columns are not what the spec's modalities are."""
    modalities = load_modalities(spec, registry, {})
    plugin_class = registry.dataset(spec.data.kind)
    try:
        with plugin_call(plugin_class.kind, "the constructor"):
            dataset = plugin_class(spec.data.config, modalities, spec.seed)
        with plugin_call(plugin_class.kind, "columns"):
            columns = dict(dataset.columns)
    except (ValueError, OSError) as error:
        raise DataError(f"dataset {plugin_class.kind!r}: {error}") from error
    wrong = [
        f"modalities.{name}: {said}"
        for name, modality in modalities.items()
        if (said := _misfit(name, modality.kind, plugin_class.kind, columns))
    ]
    if wrong:
        raise SpecError("\n".join(wrong))
    return DatasetWithMissingCells(dataset, spec.data.missing) if spec.data.missing else dataset


def _misfit(name: str, kind: str, dataset: str, columns: Mapping[str, str]) -> str:
    """What a modality has against the columns of a dataset, if anything."""
    if name not in columns:
        known = f"(columns: {', '.join(columns)}){did_you_mean(name, columns)}"
        return f"dataset {dataset!r} has no column {name!r} {known}"
    if columns[name] != kind:
        return f"is of kind {kind!r}, but that column of dataset {dataset!r} is {columns[name]!r}"
    return ""


def load_modalities(
    spec: Spec, registry: Registry, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Modality]:
    """The spec's modalities with the facts of an earlier fit; without facts, not fitted."""
    return {
        name: _built(name, registry.modality(own.kind), own.config, facts.get(name))
        for name, own in spec.modalities.items()
    }


def _built(
    name: str, plugin_class: type[Modality], config: Any, facts: Mapping[str, Any] | None
) -> Modality:
    try:
        with plugin_call(plugin_class.kind, "the constructor"):
            return plugin_class(config, facts)
    except (ValueError, OSError) as error:
        raise SpecError(f"modalities.{name}: {error}") from error


def layout_of(modalities: Mapping[str, Modality]) -> LatentLayout:
    """Where each modality sits in the joint latent: in the spec's order."""
    return LatentLayout({name: own.config.latent_dim for name, own in modalities.items()})


def fit_modalities(spec: Spec, dataset: Dataset, registry: Registry) -> dict[str, Modality]:
    """The spec's modalities, each with the facts it learns from the training split."""
    split = open_split(dataset, "train", spec.modalities)
    facts = {}
    for name, own in spec.modalities.items():
        plugin_class = registry.modality(own.kind)
        try:
            with plugin_call(own.kind, "fit"):
                learnt = plugin_class.fit(own.config, PresentItems(split, name, dataset.kind))
        except (ValueError, OSError) as error:
            raise DataError(f"modality {name!r} cannot be fitted: {error}") from error
        try:
            facts[name] = json.loads(json.dumps(learnt, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"kind {own.kind!r}: fit returns what is not JSON: {error}"
            ) from error
    return load_modalities(spec, registry, facts)


def load_data(dataset: Dataset, modalities: Mapping[str, Modality]) -> Data:
    """The dataset's rows as tensors of the fitted modalities; nothing is read yet."""
    return Data(dataset, modalities)


class Data:
    """The rows of a dataset; a split is loaded when first used, so a finished run reads none."""

    def __init__(self, dataset: Dataset, modalities: Mapping[str, Modality]) -> None:
        self._dataset = dataset
        self._modalities = dict(modalities)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The name of each class index; empty without labels."""
        return tuple(self._dataset.classes)

    @cached_property
    def train(self) -> Rows:
        """What networks are fitted on; has at least one item of every modality."""
        return self._load("train")

    @cached_property
    def validation(self) -> Rows:
        """What choices are made and curves drawn on."""
        return self._load("validation")

    @cached_property
    def test(self) -> Rows:
        """What is scored once, at the end."""
        return self._load("test")

    def rows(self, split: SplitName) -> Rows:
        """The rows of a split by its name."""
        match split:
            case "train":
                return self.train
            case "validation":
                return self.validation
            case "test":
                return self.test

    def _load(self, name: SplitName) -> Rows:
        split = open_split(self._dataset, name, self._modalities)
        items: dict[str, Tensor | None] = {}
        present = torch.zeros(len(split.ids), len(self._modalities), dtype=torch.bool)
        faults: list[str] = []
        for index, (own, modality) in enumerate(self._modalities.items()):
            column = Column(split, own, self._dataset.kind, modality)
            items[own] = column.load(present[:, index], faults, told=f"{name} {own}")
        if faults:
            raise DataError(format_item_errors(f"the {name} split", faults))
        kept = present.any(dim=1)
        if name == "train" and not kept.any():
            raise DataError("the train split has no row with anything recorded")
        labels = None
        if split.labels is not None:
            labels = torch.tensor(list(split.labels), dtype=torch.int64)[kept]
        return Rows(
            ids=tuple(row for row, stays in zip(split.ids, kept.tolist(), strict=True) if stays),
            items={own: self._kept(own, name, column, kept) for own, column in items.items()},
            present=present[kept],
            labels=labels,
            dropped=int((~kept).sum()),
        )

    def _kept(
        self, own: str, name: SplitName, column: Tensor | None, kept: Bool[Tensor, " row"]
    ) -> Tensor:
        """The rows that stay; zeros in the form of the training items where none is recorded."""
        if column is not None:
            return column if kept.all() else column[kept]
        if name == "train":
            raise DataError(f"the train split has no item of modality {own!r}")
        like = self.train.items[own]
        return like.new_zeros((int(kept.sum()), *like.shape[1:]))
