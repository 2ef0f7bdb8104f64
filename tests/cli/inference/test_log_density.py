from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mld.inference.log_density import log_density
from mld.inference.manifest import read_manifest
from mld.inference.score import score
from mld.inference.trained_run import TrainedRun
from mld_core import SpecError
from mld_core.information.likelihood import log_scale


@pytest.mark.slow
@pytest.mark.long
def test_flow_and_denoising_errors_agree(
    trained_run: TrainedRun, write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """Of any modalities, given any others; scores integrate the same denoising errors."""
    path = write_manifest(tmp_path / "m", missing=True)
    rows, scores = read_manifest(trained_run, path), score(trained_run, path, seed=3)
    errors = log_density(trained_run, path, ["left"], by="errors", seed=3)
    has_left = rows.present[:, 0]
    assert torch.equal(errors.standardised.isfinite(), has_left)
    expected = torch.full((40,), torch.nan)
    for row in scores:
        if "left" in row.log_density:
            expected[row.index] = row.log_density["left"].value
    torch.testing.assert_close(
        errors.standardised[has_left], expected[has_left], atol=1e-3, rtol=1e-3
    )
    flow = log_density(trained_run, path, ["right"], ["left"])
    errors = log_density(trained_run, path, ["right"], ["left"], by="errors")
    has_both = rows.present[:, :2].all(1)
    assert torch.equal(flow.raw.isfinite(), has_both)
    difference = (errors.raw - flow.raw)[has_both].abs()
    assert float(difference.median()) < 3 * float(errors.standard_error[has_both].mean())
    right = log_scale(trained_run.score_model, ["right"])
    torch.testing.assert_close(flow.raw[has_both], flow.standardised[has_both] - right)
    for of, given in ((["right"], ["right"]), (["middle"], []), ([], ["left"])):
        with pytest.raises(SpecError, match=r"disjoint from `given`|no latents of middle"):
            log_density(trained_run, path, of, given)
