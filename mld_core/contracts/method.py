"""The contract of a method: a baseline that models all modalities jointly.

From a new autoencoder of each modality, the same as mld's own method uses, a method builds one
model that is trained on rows of items and samples wanted modalities given others. mld trains it in
its training loop and evaluates it like its own method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxtyping import Bool, Float, Shaped
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from mld_core.contracts.modality import Autoencoder, Modality


class MethodConfig(BaseModel):
    """Settings of a method in a spec; plugins subclass it.

    `steps`, `batch_size` and `learning_rate` belong to every method and are not fields of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class JointModel(nn.Module, ABC):
    """One network over all modalities.

    Random draws come from torch's global generator, which the caller seeds.

    Args:
        autoencoders: by modality, in the spec's order; they may be trained, and their `decode`
            turns the latents of `sample` into items.
    """

    def __init__(self, autoencoders: Mapping[str, Autoencoder]) -> None:
        super().__init__()
        self.autoencoders = nn.ModuleDict(autoencoders)

    @abstractmethod
    def loss(
        self,
        items: Mapping[str, Shaped[Tensor, " batch *item"]],
        present: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, ""]:
        """Training loss, the mean over rows; a missing cell contains zeros."""

    @abstractmethod
    def sample(
        self, given: Mapping[str, Shaped[Tensor, " batch *item"]], wanted: Sequence[str], n: int
    ) -> dict[str, Float[Tensor, "batch latent"]]:
        """Latents of each wanted modality, `latent_dim` wide, for n rows; `given` may be empty."""


class Method(ABC):
    """A kind of joint model, built from the modalities of a spec.

    Args:
        config: an instance of this class's `Config`.
        modalities: the spec's modalities by name, fitted. ValueError if the method cannot model
            them.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    needs_complete: ClassVar[bool] = False
    """True: rows with a missing cell are excluded from training."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions, as well as the plugin's code, determine the trained model."""

    def __init__(self, config: MethodConfig, modalities: Mapping[str, Modality]) -> None:
        self.config = config
        self.modalities = dict(modalities)

    @abstractmethod
    def model(self, autoencoders: Mapping[str, Autoencoder]) -> JointModel:
        """A new model; its initial weights come from torch's global generator."""
