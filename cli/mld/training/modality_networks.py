"""A modality's own network, learning from that modality's items alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Float, Shaped
from torch import Generator, Tensor, nn

from mld.config.sections import TrainingSpec
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest, tensor_digest
from mld.training.cached import is_in_progress, train_cached
from mld.training.train import Objective
from mld_core import Modality

if TYPE_CHECKING:
    from pydantic import JsonValue


class ModalityObjective(Objective):
    """What an autoencoder or a classifier learns; items are augmented while it does.

    Args:
        name: the modality's name in the spec.
    """

    def __init__(self, name: str, modality: Modality, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.modality = modality
        self.network = network

    @abstractmethod
    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats, of the items, or of whatever else `batch` holds of them."""

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The mean over the items "x" of a batch, in nats."""
        x = batch["x"]
        if self.training:
            x = self.modality.augment(x, generator)
        loss = self.loss(x, batch).float().mean()
        return loss, {self.name: loss}


@dataclass(frozen=True)
class ModalityTraining:
    """One apprentice's training, or what the store has of the same one.

    Args:
        job: "autoencode" or "classify".
        rows: the items "x" and what the loss asks of them.
    """

    job: str
    apprentice: ModalityObjective
    rows: Mapping[str, Tensor]
    validation: Mapping[str, Tensor]
    spec: TrainingSpec

    @cached_property
    def key(self) -> dict[str, JsonValue]:
        """What decides the weights beside the settings and the computing."""
        modality, network = self.apprentice.modality, self.apprentice.network
        return {
            "kind": modality.kind,
            "config": modality.config.model_dump(mode="json"),
            "facts": dict(modality.facts),
            "code": code_digest(type(modality).__module__),
            "name": self.apprentice.name,
            "shapes": {name: list(t.shape) for name, t in network.state_dict().items()},
            "items": tensor_digest(*self.rows.values()),
        }

    def are_taken(self, context: RunContext) -> bool:
        """Whether another run is at the same training just now."""
        return is_in_progress(context, self.job, self.apprentice, self.spec, self.key)

    def take(self, context: RunContext) -> None:
        """Train the network in place, or read its weights."""
        job = f"{self.job}/{self.apprentice.name}"
        trained = train_cached(
            context, job, self.apprentice, self.rows, self.validation, self.spec, self.key
        )
        self.apprentice.load_state_dict(trained.weights)
        self.apprentice.network.eval()


def train_all(lessons: Iterable[ModalityTraining], context: RunContext) -> None:
    """Train every network, those first that no other run is training at the moment."""
    left = list(lessons)
    while left:
        free = (own for own in left if not own.are_taken(context))
        chosen = next(free, left[0])
        left.remove(chosen)
        chosen.take(context)
