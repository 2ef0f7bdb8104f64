"""Cached latents of held-out rows, and the check for marginals."""

from __future__ import annotations

from torch import Tensor

from mld.data.types import SplitLatents
from mld.inference.trained_run import TrainedRun
from mld.storage.stages import ENCODE
from mld_core import SpecError, SplitName
from mld_core.diffusion.latent_layout import JointLatent
from mld_core.diffusion.role_schemes import NO_MARGINALS_MESSAGE

MIN_CALIBRATION_ROWS = 50
"""With fewer complete validation rows, predictions are not recalibrated."""


def cached_latents(run: TrainedRun, split: SplitName) -> SplitLatents:
    """The raw latents of a split's rows, as the run has encoded them."""
    run.run_dir.verify_stage(ENCODE.name)
    path = run.run_dir.latents(split)
    cache = run.run_dir.read_tensors(path)
    with run.run_dir.content_of(path):
        return SplitLatents(cache["z"], cache["present"])


def complete_latents(run: TrainedRun, split: SplitName) -> JointLatent:
    """Raw joint latents of a split's rows in which no modality is missing."""
    latents = cached_latents(run, split)
    return latents.z[latents.present.all(1)]


def calibration_latents(run: TrainedRun) -> dict[str, Tensor] | None:
    """Raw validation latents by modality, to recalibrate the network's predictions on.

    None if the network has no marginals or there are too few complete rows.
    """
    if not run.score_model.has_marginals:
        return None
    z = complete_latents(run, "validation")
    return run.score_model.layout.split(z) if len(z) >= MIN_CALIBRATION_ROWS else None


def check_marginals(run: TrainedRun, command: str) -> None:
    """SpecError unless the run's network has marginals."""
    model = run.score_model
    if not model.has_marginals:
        message = NO_MARGINALS_MESSAGE.format(scheme=model.scheme)
        raise SpecError(f"{run.run_dir.path}: {command}: {message}")
