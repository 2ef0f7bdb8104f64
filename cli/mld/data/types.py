"""Results that a stage passes to later ones: the latent cache and generated latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld.config.sections import GenerateSpec
from mld.data.stored_rows import MappedTensor, tensor_of
from mld_core import SplitName
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.standardiser import Standardiser


@dataclass(frozen=True)
class SplitLatents:
    """The raw joint latents of a split; zeros where a modality is missing.

    Args:
        stored: in memory or in a file.
    """

    stored: Float[Tensor, "row joint"] | MappedTensor
    present: Bool[Tensor, "row modality"]

    @property
    def z(self) -> Float[Tensor, "row joint"]:
        """The latents, read from their file where they are used; not to be changed."""
        return tensor_of(self.stored)


@dataclass(frozen=True)
class LatentCache:
    """The raw latents of all splits.

    Args:
        layout: of the joint latent, in the spec's order.
        train, validation, test: the raw latents of each split.
        standardiser: fitted on the present latents of `train`.
    """

    layout: LatentLayout
    train: SplitLatents
    validation: SplitLatents
    test: SplitLatents
    standardiser: Standardiser

    def split(self, name: SplitName) -> SplitLatents:
        """The raw latents of a split by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


@dataclass(frozen=True)
class SubsetSamples:
    """Samples of all other modalities, given one subset of the modalities of data.

    Args:
        given: the observed modalities, in the spec's order; empty for joint generation.
        rows: index, in the evaluated split, of the row that each sample is conditioned on;
            arbitrary rows for joint generation.
        latents: raw latents of the generated modalities.
        nfe: network evaluations per sample.
        seconds: wall-clock time of sampling, per sample.
        draws: raw latents of several samples of each row, by modality, of which `latents` are the
            first; empty if there is one of each.
    """

    given: tuple[str, ...]
    rows: Int64[Tensor, " sample"]
    latents: Mapping[str, Float[Tensor, "sample _"]]
    nfe: float
    seconds: float
    draws: Mapping[str, Float[Tensor, "sample draw _"]]


def subset_key(given: tuple[str, ...]) -> str:
    """Name of an observed subset in files and tables: "joint", or modalities joined by "+"."""
    return "+".join(given) or "joint"


def subsets_of(spec: GenerateSpec, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The conditioning subsets of a spec, each in the order of `names`."""
    if spec.subsets == "auto":
        return conditioning_subsets(names)
    return [tuple(name for name in names if name in subset) for subset in spec.subsets]
