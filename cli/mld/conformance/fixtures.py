"""What is checked: a plugin's class and config, and what several checks need of it, made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from pydantic import BaseModel, JsonValue
from torch import Tensor, nn

from mld.conformance.check import Skipped, demand, skip
from mld.evaluation.evaluator import ClassificationObjective
from mld.pipeline.autoencode import ReconstructionObjective
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.train import train
from mld_core import Autoencoder, Classifier, Dataset, Modality, Split, SplitName

CLASSES = 10
ROWS: dict[SplitName, int] = {"train": 400, "validation": 200, "test": 200}
"""Examples of each split, all labels alike often and in turn."""

FEW = 20
"""Items of a check that needs no more: two of each label."""

COMPUTE = Compute("cpu", 1, "32-true", 1)
"""One thread, so that the same plugin gives the same verdict wherever there is one processor."""

SEED = 0
Made = TypeVar("Made")
Network = TypeVar("Network", bound=nn.Module)


class Step(Generic[Made]):
    """A property that several checks need, made when first asked for.

    Where making it fails, the check that asked first fails, and the later ones are skipped.
    """

    def __init__(self, make: Callable[[Any], Made]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, subject: Any, owner: type | None = None) -> Made:
        made = subject.made
        if self._name in made:
            return made[self._name]
        if self._name in subject.failed:
            told = self._name.replace("_", " ")
            raise Skipped(f"needs {told}, and making that failed in an earlier check")
        try:
            with torch.enable_grad(), torch.random.fork_rng([]):
                torch.manual_seed(derive(SEED, "step", self._name))
                made[self._name] = self._make(subject)
        except Exception:
            subject.failed.add(self._name)
            raise
        return made[self._name]


class Subject:
    """A plugin's class with one config.

    `folder` is empty, and a new one for every check.
    """

    folder: Path

    def __init__(self, plugin_class: Any, config: BaseModel) -> None:
        self.plugin_class = plugin_class
        self.config = config
        self.made: dict[str, Any] = {}
        self.failed: set[str] = set()


class ModalitySubject(Subject):
    """A modality, its examples as items, and its networks, fresh and trained.

    Args:
        provides: the class.
        config: an instance of its Config.
        partner: what the joint model pairs it with; itself if not given.
    """

    plugin_class: type[Modality]

    def __init__(
        self, plugin_class: type[Modality], config: Any, partner: ModalitySubject | None = None
    ) -> None:
        super().__init__(plugin_class, config)
        self.partner = partner or self

    def again(self) -> Modality:
        """A fitted modality made anew from what a run would have written down."""
        config = self.plugin_class.Config.model_validate(json.loads(self.config.model_dump_json()))
        try:
            facts = json.dumps(self.facts)
        except (TypeError, ValueError):
            skip("needs facts that are JSON: see fit-gives-json")
        return self.plugin_class(config, json.loads(facts))

    @Step
    def raw(self) -> dict[SplitName, list[Any]]:
        """Examples of every split."""
        unfitted = self.plugin_class(self.config)
        made = {}
        for split in ROWS:
            made[split] = list(unfitted.examples(_turns(split), split, rng(split)))
            demand(
                len(made[split]) == ROWS[split],
                f"examples gave {len(made[split])} data for {ROWS[split]} labels of the {split} "
                "split: return one for each",
            )
        return made

    @Step
    def facts(self) -> dict[str, JsonValue]:
        """What fit learns from the training examples."""
        return self.plugin_class.fit(self.config, list(self.raw["train"]))

    @Step
    def modality(self) -> Modality:
        """The modality, fitted."""
        return self.again()

    @Step
    def items(self) -> dict[SplitName, Shaped[Tensor, " row *item"]]:
        """The examples as items."""
        return {split: self._stacked(split) for split in ROWS}

    def _stacked(self, split: SplitName) -> Tensor:
        items: list[Tensor] = []
        for raw in self.raw[split]:
            x = self.modality.preprocess(raw)
            demand(
                isinstance(x, Tensor),
                f"preprocess gave a {type(x).__name__}: it must give a torch.Tensor",
            )
            first = items[0] if items else x
            demand(
                x.shape == first.shape and x.dtype == first.dtype,
                f"preprocess gave {form(x)} for one example and {form(first)} for another: the "
                "form may depend on config and facts alone",
            )
            items.append(x)
        return torch.stack(items)

    @property
    def few(self) -> Shaped[Tensor, " row *item"]:
        """Held-out items, two of each label."""
        return self.items["test"][:FEW]

    def labels(self, split: SplitName) -> Int64[Tensor, " row"]:
        """The label of each item."""
        return torch.tensor(_turns(split))

    def autoencoder(self, *parts: str | int) -> Autoencoder:
        """A fresh autoencoder in eval mode; other parts, other weights."""
        return seeded(self.modality.autoencoder, *parts).eval()

    def classifier(self, *parts: str | int) -> Classifier:
        """A fresh classifier in eval mode."""
        return seeded(lambda: self.modality.classifier(CLASSES), *parts).eval()

    def learn(self, x: Shaped[Tensor, " row *item"], steps: int, *parts: str) -> Autoencoder:
        """An autoencoder after some steps; one without parameters as it is."""
        autoencoder = self.autoencoder(*parts)
        if not any(p.requires_grad for p in autoencoder.parameters()):
            return autoencoder
        objective = ReconstructionObjective(self.plugin_class.kind, self.modality, autoencoder)
        learn(objective, {"x": x}, steps)
        return autoencoder.eval()

    @Step
    def trained_autoencoder(self) -> Autoencoder:
        """An autoencoder after 200 steps."""
        return self.learn(self.items["train"], 200)

    @Step
    def generated(self) -> Shaped[Tensor, " row *item"]:
        """What the trained autoencoder decodes from latents that no item has."""
        with torch.no_grad():
            z = self.trained_autoencoder.encode(self.items["train"])
            z = z.mean(0) + z.std(0) * torch.randn(FEW, z.shape[1])
            return self.trained_autoencoder.decode(z)

    @Step
    def trained_classifier(self) -> Classifier:
        """A classifier after 300 steps."""
        classifier = self.classifier()
        objective = ClassificationObjective(self.plugin_class.kind, self.modality, classifier)
        learn(objective, {"x": self.items["train"], "label": self.labels("train")}, 300)
        return classifier.eval()

    @Step
    def logits(self) -> Tensor:
        """The trained classifier's answers to the held-out items."""
        with torch.no_grad():
            return self.trained_classifier(self.items["test"]).float()


class DatasetSubject(Subject):
    """A dataset and the modalities that it serves.

    Args:
        provides: the class.
        config: an instance of its Config.
        modalities: by column, not fitted.
        knows: whether a kind of modality is installed.
    """

    plugin_class: type[Dataset]
    seed = SEED

    def __init__(
        self,
        plugin_class: type[Dataset],
        config: Any,
        modalities: Mapping[str, Modality],
        knows: Callable[[str], bool],
    ) -> None:
        super().__init__(plugin_class, config)
        self.modalities = dict(modalities)
        self.knows = knows

    def build(self, seed: int = SEED) -> Dataset:
        """A new instance."""
        return self.plugin_class(self.config, self.modalities, seed)

    @Step
    def dataset(self) -> Dataset:
        """The dataset."""
        return self.build()

    @Step
    def splits(self) -> dict[SplitName, Split]:
        """What it serves."""
        return {name: self.dataset.split(name) for name in ROWS}

    @Step
    def fitted(self) -> dict[str, Modality]:
        """The modalities, fitted on the train split."""
        return {name: self._fitted(name, modality) for name, modality in self.modalities.items()}

    def _fitted(self, name: str, modality: Modality) -> Modality:
        recorded = (raw for raw in self.splits["train"].items[name] if raw is not None)
        return type(modality)(modality.config, type(modality).fit(modality.config, recorded))

    def item(self, split: Split, column: str, row: int) -> Tensor | None:
        """The item of a cell; None where it is missing."""
        raw = split.items[column][row]
        return None if raw is None else self.fitted[column].preprocess(raw)


def learn(
    objective: Objective, rows: dict[str, Tensor], steps: int, ema: float | None = None
) -> None:
    """Train an objective in place, in the loop that every run uses."""
    config = TrainConfig(steps, 64, 1e-3, ema)
    no_rows = {name: tensor[:0] for name, tensor in rows.items()}
    job = TrainJob("check", objective, rows, no_rows, config, {})
    with TemporaryDirectory() as folder:
        store = WeightStore(Path(folder))
        trained = train(job, RunContext(RunDir(Path(folder)), store, COMPUTE, SEED))
    objective.load_state_dict(dict(trained.ema or trained.weights))


def seeded(make: Callable[[], Network], *parts: str | int) -> Network:
    """A network whose initial weights derive from the parts alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(SEED, "initialise", *parts))
        return make()


def rng(*parts: str | int) -> np.random.Generator:
    """A numpy generator for one use."""
    return np.random.default_rng(derive(SEED, "examples", *parts))


def form(x: Tensor) -> str:
    """Shape and dtype in words."""
    return f"{x.dtype} of shape {tuple(x.shape)}"


def _turns(split: SplitName) -> list[int]:
    return [row % CLASSES for row in range(ROWS[split])]
