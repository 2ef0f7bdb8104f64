"""The plugin under test, and the values that several of its checks need, computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from pydantic import BaseModel, JsonValue
from torch import Tensor, nn

from mld.conformance.check import CheckSkipped, Role, describe, require
from mld.evaluation.evaluator import ClassificationObjective
from mld.pipeline.autoencode import ReconstructionObjective
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.job import Objective, TrainConfig, TrainJob, is_trainable
from mld.training.train import train
from mld_core import (
    Autoencoder,
    Classifier,
    Dataset,
    DatasetConfig,
    Modality,
    ModalityConfig,
    Split,
    SplitName,
)

NUM_CLASSES = 10
SPLIT_SIZES: dict[SplitName, int] = {"train": 400, "validation": 200, "test": 200}
"""Examples of each split; labels are cyclic, so that all are equally frequent."""

NUM_ITEMS = 20
"""Items in `sample_items`: two of each label."""

COMPUTE = Compute("cpu", 1, "32-true", 1)
"""One thread, so that a check's verdict does not depend on the number of cores."""

SEED = 0
Value = TypeVar("Value")
Network = TypeVar("Network", bound=nn.Module)


def cached_fixture(compute: Callable[[Any], Value]) -> cached_property[Value]:
    """A cached property of a plugin under test.

    If computing it raises, the check that requested it first fails and later ones are skipped.
    """
    name = compute.__name__

    def compute_seeded(plugin: PluginUnderTest) -> Value:
        if name in plugin.failed_fixtures:
            raise CheckSkipped(f"needs {name!r}, which failed in an earlier check")
        try:
            with torch.enable_grad(), torch.random.fork_rng([]):
                torch.manual_seed(derive(SEED, "step", name))
                return compute(plugin)
        except Exception:
            plugin.failed_fixtures.add(name)
            raise

    return cached_property(compute_seeded)


@dataclass(eq=False)
class PluginUnderTest:
    """A plugin's class with one config; `folder` is a new empty folder for every check."""

    role: ClassVar[Role]
    plugin_class: Any
    config: BaseModel
    folder: Path = field(init=False)
    failed_fixtures: set[str] = field(init=False, default_factory=set)
    isolated_result: dict[str, Any] | None = field(init=False, default=None)


@dataclass(eq=False)
class ModalityUnderTest(PluginUnderTest):
    """A modality, its examples as items, and its networks, untrained and trained.

    The joint model pairs it with `partner`; by default with itself.
    """

    role = "modality"
    plugin_class: type[Modality]
    config: ModalityConfig
    partner: ModalityUnderTest | None = None

    def rebuild(self) -> Modality:
        """A fitted modality made from its config and facts as a run directory stores them."""
        config = self.plugin_class.Config.model_validate(json.loads(self.config.model_dump_json()))
        try:
            facts = json.dumps(self.facts)
        except (TypeError, ValueError):
            raise CheckSkipped("needs facts that are JSON: see fit-returns-json") from None
        return self.plugin_class(config, json.loads(facts))

    @cached_fixture
    def raw(self) -> dict[SplitName, list[Any]]:
        """Raw examples of every split."""
        unfitted = self.plugin_class(self.config)
        raw: dict[SplitName, list[Any]] = {}
        for split, size in SPLIT_SIZES.items():
            labels = self.labels(split).tolist()
            raw[split] = list(unfitted.examples(labels, split, rng(split)))
            require(
                len(raw[split]) == size,
                f"examples gave {len(raw[split])} data for {size} labels of the {split} split: "
                "return one for each label",
            )
        return raw

    @cached_fixture
    def facts(self) -> dict[str, JsonValue]:
        """What fit learns from the training examples."""
        return self.plugin_class.fit(self.config, list(self.raw["train"]))

    @cached_fixture
    def modality(self) -> Modality:
        """The fitted modality."""
        return self.rebuild()

    @cached_fixture
    def items(self) -> dict[SplitName, Shaped[Tensor, " row *item"]]:
        """The examples as items."""
        return {split: self._preprocess(split) for split in SPLIT_SIZES}

    def _preprocess(self, split: SplitName) -> Tensor:
        items: list[Tensor] = []
        for raw in self.raw[split]:
            x: Any = self.modality.preprocess(raw)
            is_tensor = isinstance(x, Tensor)
            require(is_tensor, f"preprocess gave a {type(x).__name__}: return a torch.Tensor")
            first = items[0] if items else x
            require(
                x.shape == first.shape and x.dtype == first.dtype,
                f"preprocess gave {describe(x)} for one example and {describe(first)} for "
                "another: shape and dtype may depend on config and facts only",
            )
            items.append(x)
        return torch.stack(items)

    @property
    def sample_items(self) -> Shaped[Tensor, " row *item"]:
        """Held-out items, two of each label."""
        return self.items["test"][:NUM_ITEMS]

    def labels(self, split: SplitName) -> Int64[Tensor, " row"]:
        """The label of each item."""
        return torch.arange(SPLIT_SIZES[split]) % NUM_CLASSES

    def more_items(self, labels: Sequence[int], split: SplitName, *seed_parts: str) -> Tensor:
        """New examples as items; they depend on the labels, the split and the seed parts."""
        raw = self.plugin_class(self.config).examples(labels, split, rng(*seed_parts))
        return preprocess_all(self.modality, raw)

    def autoencoder(self, *seed_parts: str | int) -> Autoencoder:
        """An untrained autoencoder in eval mode; its weights depend on the seed parts."""
        return seeded_init(self.modality.autoencoder, *seed_parts).eval()

    def classifier(self, *seed_parts: str | int) -> Classifier:
        """An untrained classifier in eval mode; its weights depend on the seed parts."""
        return seeded_init(lambda: self.modality.classifier(NUM_CLASSES), *seed_parts).eval()

    def train_autoencoder(self, x: Shaped[Tensor, " row *item"], *seed_parts: str) -> Autoencoder:
        """An autoencoder after 200 steps on the items; untrained if it has no parameters."""
        autoencoder = self.autoencoder(*seed_parts)
        if not is_trainable(autoencoder):
            return autoencoder
        objective = ReconstructionObjective(self.plugin_class.kind, self.modality, autoencoder)
        train_in_place(objective, {"x": x}, 200)
        return autoencoder.eval()

    @cached_fixture
    def trained_autoencoder(self) -> Autoencoder:
        """An autoencoder after 200 steps."""
        return self.train_autoencoder(self.items["train"])

    @cached_fixture
    def generated(self) -> Shaped[Tensor, " row *item"]:
        """Items that the trained autoencoder decodes from Gaussian latents."""
        with torch.no_grad():
            z = self.trained_autoencoder.encode(self.items["train"])
            z = z.mean(0) + z.std(0) * torch.randn(NUM_ITEMS, z.shape[1])
            return self.trained_autoencoder.decode(z)

    @cached_fixture
    def trained_classifier(self) -> Classifier:
        """A classifier after 300 steps."""
        classifier = self.classifier()
        objective = ClassificationObjective(self.plugin_class.kind, self.modality, classifier)
        rows = {"x": self.items["train"], "label": self.labels("train")}
        train_in_place(objective, rows, 300)
        return classifier.eval()

    @cached_fixture
    def logits(self) -> Float[Tensor, "row classes"]:
        """The trained classifier's logits of the held-out items."""
        with torch.no_grad():
            logits: Tensor = self.trained_classifier(self.items["test"])
        return logits.float()


@dataclass(eq=False)
class DatasetUnderTest(PluginUnderTest):
    """A dataset and the modalities of its columns.

    Args:
        modalities: column to modality, not fitted.
        is_installed: whether a modality of a kind is installed.
    """

    role = "dataset"
    plugin_class: type[Dataset]
    config: DatasetConfig
    modalities: dict[str, Modality]
    is_installed: Callable[[str], bool]

    def build(self, seed: int = SEED, config: DatasetConfig | None = None) -> Dataset:
        """A new instance, by default with the config under test."""
        return self.plugin_class(config or self.config, self.modalities, seed)

    @cached_fixture
    def dataset(self) -> Dataset:
        """The dataset."""
        return self.build()

    @cached_fixture
    def splits(self) -> dict[SplitName, Split]:
        """Every split of the dataset."""
        return {name: self.dataset.split(name) for name in SPLIT_SIZES}

    @cached_fixture
    def fitted(self) -> dict[str, Modality]:
        """The modalities, fitted on the train split."""
        fitted = {}
        for name, modality in self.modalities.items():
            present = (raw for raw in self.splits["train"].items[name] if raw is not None)
            facts = type(modality).fit(modality.config, present)
            fitted[name] = type(modality)(modality.config, facts)
        return fitted

    def item(self, split: Split, column: str, row: int) -> Tensor | None:
        """The item in a cell; None if it is missing."""
        raw = split.items[column][row]
        return None if raw is None else self.fitted[column].preprocess(raw)


def train_in_place(
    objective: Objective,
    rows: dict[str, Tensor],
    steps: int,
    ema_decay: float | None = None,
    learning_rate: float = 1e-3,
) -> None:
    """Train an objective with the pipeline's training loop; the averaged weights if there are."""
    config = TrainConfig(steps, 64, learning_rate, ema_decay)
    no_validation = {name: x[:0] for name, x in rows.items()}
    job = TrainJob("check", objective, rows, no_validation, config, {})
    with TemporaryDirectory() as folder:
        context = RunContext(RunDir(Path(folder)), WeightStore(Path(folder)), COMPUTE, SEED)
        trained = train(job, context)
    objective.load_state_dict(dict(trained.ema or trained.weights))


def preprocess_all(modality: Modality, raw: Iterable[Any]) -> Shaped[Tensor, " row *item"]:
    """Raw data as items."""
    return torch.stack([modality.preprocess(datum) for datum in raw])


def seeded_init(make: Callable[[], Network], *seed_parts: str | int) -> Network:
    """A network whose initial weights depend on the seed parts only."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(SEED, "initialise", *seed_parts))
        return make()


def rng(*seed_parts: str | int) -> np.random.Generator:
    """A numpy generator seeded by the seed parts."""
    return np.random.default_rng(derive(SEED, "examples", *seed_parts))
