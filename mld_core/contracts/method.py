"""The contract of a method: a baseline that models all modalities jointly.

A method builds one model over rows of items, or of the latents that mld's own method uses, which
samples wanted modalities given others. mld fits it, trains it in its training loop, and evaluates
it like its own method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxtyping import Bool, Float, Shaped
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from mld_core.contracts.modality import Autoencoder, Modality
from mld_core.diffusion.modality_modules import ModalityModules


class MethodConfig(BaseModel):
    """Settings of a method in a spec; plugins subclass it.

    `steps`, `batch_size` and `learning_rate` belong to every method and are not fields of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class JointModel(nn.Module, ABC):
    """One model over all modalities.

    Its rows are items, or latents if its method works `on_latents`. Random draws come from torch's
    global generator, which the caller seeds. One without trainable parameters is fitted alone.

    Args:
        autoencoders: by modality, in the spec's order; they may be trained, and their `decode`
            turns the latents of `sample` into items. Empty for a method that works on latents.
    """

    def __init__(self, autoencoders: Mapping[str, Autoencoder]) -> None:
        super().__init__()
        self.autoencoders = ModalityModules[Autoencoder](autoencoders)

    def fit(
        self,
        items: Mapping[str, Shaped[Tensor, " batch *item"]],
        present: Bool[Tensor, "batch modality"],
    ) -> None:
        """Set, before any training, what follows from all training rows; by default nothing.

        Every parameter and buffer keeps its shape. A missing cell contains zeros.
        """

    @abstractmethod
    def loss(
        self,
        items: Mapping[str, Shaped[Tensor, " batch *item"]],
        present: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, ""]:
        """What training or `fit` minimises, the mean over rows; a missing cell contains zeros."""

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
    on_latents: ClassVar[bool] = False
    """True: its rows are standardised latents of mld's trained autoencoders, which also decode its
    samples; False: items, with new autoencoders."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions, as well as the plugin's code, determine the trained model."""

    def __init__(self, config: MethodConfig, modalities: Mapping[str, Modality]) -> None:
        self.config = config
        self.modalities = dict(modalities)

    @abstractmethod
    def model(self, autoencoders: Mapping[str, Autoencoder]) -> JointModel:
        """A new model; its initial weights come from torch's global generator.

        `autoencoders` are new ones of its own, or none if it works on latents; the width of a
        latent is `self.modalities[name].latent_dim`.
        """
