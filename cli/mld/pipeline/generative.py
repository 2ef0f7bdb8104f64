"""What a trained run samples from: mld's score network, or the joint model of another method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mld.config.sections import GenerateSpec, GuidanceSpec
from mld.runtime.seeds import derive
from mld_core import Autoencoder, JointModel, PluginError
from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.sampling import LatentSamples, ScoreModel, sample_latents


@dataclass(frozen=True)
class Given:
    """What is known of the rows to sample, by modality; nothing in joint generation."""

    items: Mapping[str, Shaped[Tensor, " row *item"]]
    latents: Mapping[str, Float[Tensor, "row _"]]


class Generative(ABC):
    """Something that samples latents of what is wanted, and the networks that decode them."""

    @property
    @abstractmethod
    def decoders(self) -> Mapping[str, Autoencoder]:
        """By modality."""

    @abstractmethod
    def draw(self, given: Given, wanted: Sequence[str], seeds: Sequence[int]) -> LatentSamples:
        """One sample a seed. ValueError if the request does not fit the model."""


@dataclass(frozen=True)
class Diffusion(Generative):
    """mld's own: the score network, a sampler and guidance."""

    model: ScoreModel
    autoencoders: Mapping[str, Autoencoder]
    spec: GenerateSpec

    @property
    def decoders(self) -> Mapping[str, Autoencoder]:
        """The autoencoders whose latents the network knows."""
        return self.autoencoders

    def draw(self, given: Given, wanted: Sequence[str], seeds: Sequence[int]) -> LatentSamples:
        """As `sample_latents`."""
        told = self.spec
        return sample_latents(
            self.model,
            given.latents,
            wanted,
            seeds,
            told.sampler,
            told.steps,
            guidance_of(told.guidance),
        )


@dataclass(frozen=True)
class MethodModel(Generative):
    """Another method's model, with decoders of its own; a sample depends on its whole batch."""

    kind: str
    model: JointModel

    @property
    def decoders(self) -> Mapping[str, Autoencoder]:
        """The model's own networks."""
        return dict(self.model.autoencoders.items())

    @torch.no_grad()
    def draw(self, given: Given, wanted: Sequence[str], seeds: Sequence[int]) -> LatentSamples:
        """One pass of the model. PluginError if it breaks its contract."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(0, "draw", *seeds))
            try:
                drawn = self.model.sample(given.items, wanted, len(seeds))
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
                raise PluginError(f"method {self.kind!r}: sample failed: {told}") from error
        for name in wanted:
            if name not in drawn or len(drawn[name]) != len(seeds):
                told = f"sample gave no {len(seeds)} rows of {name!r}"
                raise PluginError(f"method {self.kind!r}: {told}")
        return LatentSamples({name: drawn[name].float() for name in wanted}, 1.0)


def guidance_of(told: float | GuidanceSpec) -> Guidance:
    """Guidance as a spec or a command says it: one strength for both parts, or one each."""
    if isinstance(told, GuidanceSpec):
        return Guidance(told.conditional, told.joint, told.interval)
    return Guidance(float(told), float(told))
