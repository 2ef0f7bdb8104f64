"""Cached latents of held-out rows, and the check for marginals."""

from __future__ import annotations

from torch import Tensor

from mld.data.latent_files import load_split
from mld.data.loading import layout_of
from mld.data.types import SplitLatents
from mld.inference.trained_run import TrainedRun
from mld.storage.stages import ENCODE
from mld_core import RunDirError, SpecError, SplitName
from mld_core.diffusion.latent_layout import JointLatent
from mld_core.diffusion.role_schemes import NO_MARGINALS_MESSAGE

MIN_CALIBRATION_ROWS = 50
"""With fewer complete validation rows, predictions are not recalibrated."""


def cached_latents(run: TrainedRun, split: SplitName) -> SplitLatents:
    """The raw latents of a split's rows, as the run has encoded them.

    RunDirError if the run has been shared without them.
    """
    if not run.run_dir.is_complete(ENCODE.name):
        raise RunDirError(
            f"{run.run_dir.path}: this needs latents of held-out rows, and the run was shared "
            "without its latents: `mld push --with-latents` shares them too"
        )
    run.run_dir.verify_stage(ENCODE.name)
    return load_split(layout_of(run.modalities), run.run_dir, split)


def complete_latents(run: TrainedRun, split: SplitName, most: int | None = None) -> JointLatent:
    """Raw joint latents of the split's first rows in which no modality is missing.

    Args:
        most: rows; by default all.
    """
    latents = cached_latents(run, split)
    return latents.z[latents.present.all(1).nonzero().flatten()[:most]]


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
