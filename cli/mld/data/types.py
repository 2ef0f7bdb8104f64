"""What stages hand on to those after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser


@dataclass(frozen=True)
class SplitLatents:
    """The raw joint latents of a split; zeros where a modality is missing."""

    z: Float[Tensor, "row joint"]
    present: Bool[Tensor, "row modality"]


@dataclass(frozen=True)
class LatentCache:
    """The latent cache.

    Args:
        layout: of the joint latent, in the spec's order.
        train, validation, test: the raw latents of each split.
        standardiser: fitted on the recorded rows of `train`.
    """

    layout: LatentLayout
    train: SplitLatents
    validation: SplitLatents
    test: SplitLatents
    standardiser: Standardiser


@dataclass(frozen=True)
class SubsetSamples:
    """Samples of everything else given one observed subset of test rows.

    Args:
        given: the observed modalities, in the spec's order; empty for joint generation.
        rows: the test row that each sample was given; any rows where nothing is given.
        latents: raw latents of the generated modalities.
        nfe: network evaluations per sample.
        seconds: of sampling, per sample.
    """

    given: tuple[str, ...]
    rows: Int64[Tensor, " sample"]
    latents: Mapping[str, Float[Tensor, "sample _"]]
    nfe: float
    seconds: float


def subset_key(given: tuple[str, ...]) -> str:
    """How files and tables call an observed subset: "joint", or names joined by "+"."""
    return "+".join(given) or "joint"
