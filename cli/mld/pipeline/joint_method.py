"""A model of all modalities at once, trained by mld's diffusion or by a plugin's method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from mld.data.loading import Data
from mld.data.packed_items import Items
from mld.data.recorded import rows_by_pattern
from mld.data.stored_rows import select_rows
from mld.data.types import LatentCache, subset_key
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.training.job import TrainJob
from mld.training.train import TrainedWeights
from mld_core import Autoencoder, NumericalError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.sampling import LatentSamples
from mld_core.diffusion.standardiser import Standardiser

_STANDARDISER = "standardiser."
"""Prefix of the statistics' names in a file of weights."""


@dataclass(frozen=True)
class Conditioning:
    """The observed modalities of the rows to sample; empty for joint generation."""

    items: Mapping[str, Shaped[Tensor, " row *item"] | Items]
    latents: Mapping[str, Float[Tensor, "row _"]]


class JointGenerator(ABC):
    """A trained joint model: samples any modalities given any others.

    Args:
        decoders: by modality, from sampled latents to items.
        scales: the statistics of the training latents by modality; empty if the model does not
            work on the latents of the run's autoencoders.
    """

    decoders: Mapping[str, Autoencoder]
    scales: Mapping[str, Standardiser]

    def sample(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """One sample of the `wanted` modalities per seed.

        ValueError if the request does not fit the model, NumericalError if a sample is not finite.
        """
        samples = self._draw(conditioning, wanted, seeds)
        for name in wanted:
            check_finite(name, samples.latents[name], subset_key(tuple(conditioning.latents)))
        return samples

    def sample_missing(
        self,
        conditioning: Conditioning,
        observed: Bool[Tensor, "row modality"],
        wanted: Bool[Tensor, "row modality"],
        seeds: Sequence[int],
    ) -> dict[str, Float[Tensor, "row _"]]:
        """Latents of rows in which other modalities are observed and wanted in each, by name.

        They are arbitrary in rows in which a modality is not wanted. Errors as of `sample`.

        Args:
            conditioning: of all modalities, at least their latents; what is not observed is
                ignored.
            observed, wanted: modalities in the order of the latents.
        """
        names = list(conditioning.latents)
        drawn = {name: torch.zeros_like(z) for name, z in conditioning.latents.items()}
        for flags, rows in rows_by_pattern(torch.cat([observed, wanted], 1)):
            given, lacking = (
                [name for name, has in zip(names, part, strict=True) if has]
                for part in (flags[: len(names)], flags[len(names) :])
            )
            known = Conditioning(
                {
                    name: select_rows(x, rows)
                    for name, x in conditioning.items.items()
                    if name in given
                },
                {name: conditioning.latents[name][rows] for name in given},
            )
            samples = self.sample(known, lacking, [seeds[row] for row in rows.tolist()])
            for name in lacking:
                drawn[name][rows] = samples.latents[name]
        return drawn

    @abstractmethod
    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """What `sample` returns, not checked."""


def check_finite(name: str, z: Float[Tensor, "row _"], given: str) -> None:
    """NumericalError if a sampled latent of a modality, given others, is not finite."""
    if invalid := int((~z.isfinite().all(1)).sum()):
        raise NumericalError(
            f"given {given}, {invalid} of {len(z)} samples of {name!r} are not finite: use less "
            "guidance, more steps or another sampler"
        )


def standardiser_tensors(standardiser: Standardiser) -> dict[str, Tensor]:
    """The statistics as tensors that are saved beside a network."""
    return {f"{_STANDARDISER}{name}": values for name, values in vars(standardiser).items()}


def pop_standardiser(tensors: dict[str, Tensor], layout: LatentLayout) -> Standardiser:
    """The statistics saved beside a network, removed from its tensors; an error if they do not fit.

    It is a KeyError or a RuntimeError.
    """
    names = [field.name for field in fields(Standardiser)]
    standardiser = Standardiser(**{name: tensors.pop(f"{_STANDARDISER}{name}") for name in names})
    standardiser.standardise(torch.zeros(1, layout.joint_dim))
    return standardiser


class JointMethod(ABC):
    """How a joint model is built, trained on a run's data, and loaded.

    `DiffusionMethod` wraps mld's diffusion, `PluginMethod` a plugin's `Method`.

    Args:
        title: what trains the model, for messages.
        needs_complete: whether rows with a missing item are left out of its training.
        on_latents: whether it models the latents of the trained autoencoders, not items.
    """

    title: str
    needs_complete: bool
    on_latents: bool

    def usable(self, present: Bool[Tensor, "row modality"]) -> Bool[Tensor, " row"]:
        """Which rows the model can be trained on."""
        return present.all(1) if self.needs_complete else present.any(1)

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network, to be trained."""

    @abstractmethod
    def evaluations_per_sample(self, given: Sequence[str]) -> float:
        """Network evaluations of one sample given these modalities."""

    @abstractmethod
    def job(self, data: Data, latents: LatentCache, context: RunContext) -> TrainJob:
        """The training job, on usable rows; nothing is trained without trainable parameters."""

    @abstractmethod
    def save(self, trained: TrainedWeights, latents: LatentCache, run_dir: RunDir) -> list[Path]:
        """Write the trained model; returns the files."""

    @abstractmethod
    def load(self, autoencoders: Mapping[str, Autoencoder], context: RunContext) -> JointGenerator:
        """The trained model of a run, in eval mode."""
