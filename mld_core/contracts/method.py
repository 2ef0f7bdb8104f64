"""The contract of a method: a rival way to model all modalities at once.

A method is given a fresh autoencoder of every modality, the very networks that mld itself uses,
and makes of them one model that is trained on rows of items, and that samples what is wanted given
what is known. mld trains it in its own loop, and judges it as it judges its own samples.
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
    """What a spec may say about a method, beside its training; plugins subclass it.

    `steps`, `batch` and `learning_rate` are every method's, and no fields of this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class JointModel(nn.Module, ABC):
    """One network over all modalities.

    Draws come from torch's global generator, which the caller seeds.

    Args:
        autoencoders: by modality, in the spec's order; they may be trained, and `decode` of each
            turns what `sample` draws into items.
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
        """What training minimises, the mean over rows; a cell that is not present holds zeros."""

    @abstractmethod
    def sample(
        self,
        given: Mapping[str, Shaped[Tensor, " batch *item"]],
        wanted: Sequence[str],
        n: int,
    ) -> dict[str, Float[Tensor, "batch latent"]]:
        """A latent of each wanted modality for each of n rows; nothing may be given.

        Its width is the modality's `latent_dim`.
        """


class Method(ABC):
    """How one kind of joint model is built from the modalities of a spec.

    Args:
        config: an instance of this class's `Config`.
        modalities: the spec's, fitted, by name. ValueError if the method cannot take them.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    needs_complete: ClassVar[bool] = False
    """True: rows with a missing cell are left out of its training."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose version decides what it learns, beside the plugin's own code."""

    def __init__(self, config: MethodConfig, modalities: Mapping[str, Modality]) -> None:
        self.config = config
        self.modalities = dict(modalities)

    @abstractmethod
    def model(self, autoencoders: Mapping[str, Autoencoder]) -> JointModel:
        """A fresh model; its own initial weights come from torch's global generator."""
