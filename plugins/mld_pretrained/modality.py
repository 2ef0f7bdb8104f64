"""A modality whose items are those of another kind, and whose autoencoder is pretrained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import JsonValue
from torch import Tensor, nn

from mld_core import Autoencoder, Classifier, MediaType, Metric, Modality, SplitName
from mld_pretrained.config import PretrainedConfig

Shape = tuple[int, ...]
LAPLACE_SCALE = 0.05
"""Scale of the Laplace distribution of a number of an item around its reconstruction."""


class PretrainedAutoencoder(Autoencoder):
    """A frozen model, always in eval mode.

    Args:
        model: the network.
        reference: that decides its weights.
        latent_shape: of one item.
    """

    model: Any

    def __init__(
        self, model: nn.Module, reference: Mapping[str, JsonValue], latent_shape: Shape
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.latent_shape = latent_shape
        self._reference = reference
        self.eval()

    @property
    def reference(self) -> Mapping[str, JsonValue]:
        """Name, revision and digests of the model's files."""
        return self._reference

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def encode(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch latent"]:
        """The model's latents, flattened."""
        return self.latents(x).float().flatten(1)

    def decode(self, z: Float[Tensor, "batch latent"]) -> Shaped[Tensor, " batch *item"]:
        """The item of each latent."""
        return self.items(z.unflatten(1, self.latent_shape))

    @abstractmethod
    def latents(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, " batch *latent"]:
        """The latent of each item, in its shape."""

    @abstractmethod
    def items(self, z: Float[Tensor, " batch *latent"]) -> Shaped[Tensor, " batch *item"]:
        """The item of each latent."""


class PretrainedModality(Modality):
    """All but the autoencoder is that of another kind, with the same items.

    The shape of the latent is a fact: it follows from the model and the settings.
    """

    config: PretrainedConfig

    def __init__(
        self, config: PretrainedConfig, facts: Mapping[str, JsonValue] | None = None
    ) -> None:
        super().__init__(config, facts)
        self.base = self.base_modality()

    @abstractmethod
    def base_modality(self) -> Modality:
        """The modality that reads, writes and judges the items; its autoencoder is not used."""

    @property
    def latent_shape(self) -> Shape:
        """As the model gives it."""
        shape = self.facts["latent_shape"]
        assert isinstance(shape, list)
        return tuple(int(str(size)) for size in shape)

    @property
    def media_type(self) -> MediaType:
        """As of the base."""
        return self.base.media_type

    def read(self, source: Path | str) -> Any:
        """As of the base."""
        return self.base.read(source)

    def profile(self, raw: Any) -> Mapping[str, int | float | Sequence[str]]:
        """As of the base."""
        return self.base.profile(raw)

    def preprocess(self, raw: Any) -> Tensor:
        """As of the base."""
        return self.base.preprocess(raw)

    def pack(self, x: Tensor) -> Tensor:
        """As of the base."""
        return self.base.pack(x)

    def unpack(self, packed: Tensor) -> Tensor:
        """As of the base."""
        return self.base.unpack(packed)

    def classifier(self, classes: int) -> Classifier:
        """As of the base."""
        return self.base.classifier(classes)

    def metrics(self) -> Mapping[str, Metric]:
        """As of the base."""
        return self.base.metrics()

    def write(self, x: Tensor, stem: Path) -> Path:
        """As of the base."""
        return self.base.write(x, stem)

    def preview(self, x: Tensor, stem: Path) -> list[Path]:
        """As of the base."""
        return self.base.preview(x, stem)

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """As of the base."""
        return self.base.examples(labels, split, rng)


def laplace_loss(decoded: Tensor, x: Tensor) -> Float[Tensor, " batch"]:
    """−log Laplace(x | decoded, 0.05) per item, without its constant."""
    return (decoded.float() - x).abs().flatten(1).sum(1) / LAPLACE_SCALE
