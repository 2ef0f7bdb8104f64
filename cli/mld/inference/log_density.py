"""The log-density of each row of a manifest, of some modalities given others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from mld.inference.held_out import calibration_latents
from mld.inference.manifest import ManifestRows, encode_manifest, read_manifest
from mld.inference.trained_run import TrainedRun
from mld.runtime.seeds import derive
from mld_core import SpecError
from mld_core.information import likelihood
from mld_core.information.estimator import check_density
from mld_core.information.likelihood import LogDensity
from mld_core.information.measures import Density, entropy

BATCH_SIZE = 2000
"""Rows evaluated at once."""


def log_density(
    run: TrainedRun,
    manifest: Path | str | ManifestRows,
    of: Sequence[str],
    given: Sequence[str] = (),
    *,
    by: Literal["flow", "errors"] = "flow",
    seed: int = 0,
) -> LogDensity:
    """log p(of | given) of each row's latents, in nats; NaN where a row lacks any of them.

    `by="flow"` solves the probability flow; `by="errors"` integrates denoising errors, as `score`
    does. SpecError if the run does not model that density, DataError if the manifest does not fit
    the run.
    """
    rows = read_manifest(run, manifest)
    try:
        (density,) = entropy(of, given)
        return _log_density(run, rows, density, by, derive(seed, "score"))
    except ValueError as error:
        raise SpecError(f"{run.run_dir.path}: {error}") from error


def _log_density(
    run: TrainedRun, rows: ManifestRows, density: Density, by: str, seed: int
) -> LogDensity:
    model, names = run.score_model, [*density.of, *density.given]
    latents = encode_manifest(run, rows)
    check_density(model, density, latents)
    calibration = calibration_latents(run) if by == "errors" else None
    complete = rows.present[:, [model.layout.names.index(name) for name in names]].all(1)
    values = torch.full((3, len(complete)), math.nan)
    evaluations = 0
    for batch in torch.nonzero(complete).squeeze(1).split(BATCH_SIZE):
        z = {name: latents[name][batch] for name in names}
        if by == "flow":
            result = likelihood.log_density(model, z, density, seed=seed)
        else:
            result = likelihood.log_density_by_errors(model, z, density, seed, calibration)
        values[:, batch] = torch.stack([result.standardised, result.raw, result.standard_error])
        evaluations = max(evaluations, result.evaluations)
    standardised, raw, standard_error = values
    return LogDensity(standardised, raw, standard_error, evaluations)
