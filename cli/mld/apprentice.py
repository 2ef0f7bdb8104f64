"""A modality's own network, learning from that modality's items alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from jaxtyping import Float, Shaped
from torch import Generator, Tensor, nn

from mld.loop import Objective
from mld.sections import TrainingSpec
from mld.workplace import Workplace, code_digest, tensor_digest
from mld_core import Modality


class Apprentice(Objective):
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

    def learn(
        self,
        job: str,
        rows: Mapping[str, Tensor],
        validation: Mapping[str, Tensor],
        spec: TrainingSpec,
        workplace: Workplace,
    ) -> None:
        """Train the network in place, or read from the store what the same training gave before.

        Args:
            job: "autoencode" or "classify".
            rows: the items "x" and what the loss asks of them.
        """
        key = {
            "kind": self.modality.kind,
            "config": self.modality.config.model_dump(mode="json"),
            "facts": dict(self.modality.facts),
            "code": code_digest(type(self.modality).__module__),
            "name": self.name,
            "shapes": {name: list(t.shape) for name, t in self.network.state_dict().items()},
            "items": tensor_digest(*rows.values()),
        }
        trained = workplace.trained_once(f"{job}/{self.name}", self, rows, validation, spec, key)
        self.load_state_dict(trained.weights)
        self.network.eval()


__all__ = ["Apprentice"]
