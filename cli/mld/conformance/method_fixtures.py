"""The method under test, and the rows and models that several of its checks need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mld.conformance.fixtures import (
    SEED,
    PluginUnderTest,
    cached_fixture,
    seeded_init,
    train_in_place,
)
from mld.conformance.toy_modalities import toy_items, toy_modalities
from mld.data.loading import layout_of
from mld.pipeline.plugin_method import MethodObjective
from mld.training.job import is_trainable
from mld_core import Autoencoder, JointModel, Method, MethodConfig, Modality, SplitName
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.standardiser import Standardiser

NUM_ROWS: dict[SplitName, int] = {"train": 400, "test": 400}
"""Rows of each split."""

TRAINING_STEPS = 200
"""Steps of a model that is trained."""

LEARNING_RATE = 1e-2
"""More than a run's, since there are few steps."""


@dataclass(frozen=True)
class Rows:
    """Rows as a model is given them: items, or latents of a method that works on them."""

    items: Mapping[str, Tensor]
    present: Tensor

    def take(self, rows: slice | Tensor) -> Rows:
        """Some of the rows."""
        return Rows({name: x[rows] for name, x in self.items.items()}, self.present[rows])

    def clone(self) -> Rows:
        """A copy in memory of its own."""
        return Rows({name: x.clone() for name, x in self.items.items()}, self.present.clone())

    def without(self, present: Tensor) -> Rows:
        """The same rows with other cells missing, which are zero."""
        items = {
            name: torch.where(present[:, index].reshape(-1, *[1] * (x.ndim - 1)), x, 0)
            for index, (name, x) in enumerate(self.items.items())
        }
        return Rows(items, present)

    def given(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The items of some modalities."""
        return {name: self.items[name] for name in names}


@dataclass(eq=False)
class MethodUnderTest(PluginUnderTest):
    """A method over the toy modalities, and its models, untrained and trained."""

    role = "method"
    plugin_class: type[Method]
    config: MethodConfig
    modalities: dict[str, Modality] = field(default_factory=toy_modalities)

    @cached_fixture
    def method(self) -> Method:
        """The method."""
        return self.plugin_class(self.config, self.modalities)

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities."""
        return tuple(self.modalities)

    @property
    def subsets(self) -> list[tuple[str, ...]]:
        """Every set of modalities that may be given: none, some, not all."""
        return conditioning_subsets(self.names)

    @cached_fixture
    def rows(self) -> dict[SplitName, Rows]:
        """Complete rows of the splits."""
        complete = {}
        autoencoders = self._encoders()
        layout = layout_of(self.modalities)
        standardiser: Standardiser | None = None
        for split, count in NUM_ROWS.items():
            items = toy_items(self.modalities, count, split)
            present = torch.ones(count, len(items), dtype=torch.bool)
            if self.method.on_latents:
                with torch.no_grad():
                    z = layout.concatenate({n: autoencoders[n].encode(x) for n, x in items.items()})
                standardiser = standardiser or Standardiser.fit(z, present, layout)
                items = layout.split(standardiser.standardise(z))
            complete[split] = Rows(items, present)
        return complete

    @property
    def incomplete(self) -> Rows:
        """Training rows with missing cells; every set of present modalities occurs, but none."""
        rows = self.rows["train"]
        codes = torch.arange(len(rows.present)) % (2 ** len(self.names) - 1) + 1
        return rows.without((codes[:, None] >> torch.arange(len(self.names))) % 2 == 1)

    def model(self, *seed_parts: str | int) -> JointModel:
        """A new model; its weights depend on the seed parts."""

        def make() -> JointModel:
            encoded = {} if self.method.on_latents else self.modalities
            return self.method.model({name: each.autoencoder() for name, each in encoded.items()})

        return seeded_init(make, *seed_parts)

    def learn(self, rows: Rows, steps: int) -> JointModel:
        """A model that is fitted to rows, and trained on them if it can be; in eval mode."""
        model = self.model()
        with torch.no_grad():
            model.fit(rows.items, rows.present)
        if is_trainable(model):
            objective = MethodObjective(
                self.plugin_class.kind, model, self.modalities, self.method.on_latents
            )
            items = {f"item/{name}": x for name, x in rows.items.items()}
            training = {**items, "present": rows.present}
            train_in_place(objective, training, steps, learning_rate=LEARNING_RATE)
        return model.eval()

    @cached_fixture
    def learnt(self) -> JointModel:
        """A model that has learnt the complete training rows."""
        return self.learn(self.rows["train"], TRAINING_STEPS)

    @cached_fixture
    def started(self) -> JointModel:
        """A model after three steps: what it does is defined, what it says need not be right."""
        return self.learn(self.rows["train"], 3)

    def errors(self, model: JointModel, name: str, z: Tensor, rows: Rows) -> Tensor:
        """How far sampled latents of a modality are from the items, or latents, of some rows."""
        if self.method.on_latents:
            return (z - rows.items[name]).square().sum(1)
        autoencoder = model.autoencoders[name]
        assert isinstance(autoencoder, Autoencoder)
        with torch.no_grad():
            return autoencoder.loss(z, rows.items[name])

    def _encoders(self) -> dict[str, Autoencoder]:
        return {
            name: seeded_init(each.autoencoder, name).eval()
            for name, each in self.modalities.items()
        }


@torch.no_grad()
def draw(
    model: JointModel, given: Mapping[str, Tensor], wanted: Sequence[str], n: int, seed: int = SEED
) -> dict[str, Tensor]:
    """What a model samples from a state of torch's generator."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return model.sample(given, wanted, n)


def seeded_loss(model: JointModel, rows: Rows) -> Tensor:
    """The loss of rows, from the same state of torch's generator each time."""
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        return model.loss(rows.items, rows.present)
