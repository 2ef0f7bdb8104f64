"""Estimates by a trained network of mutual information that is known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from mld_core.information.estimator import surprisal
from mld_core.information.measures import joint_mutual_information, mutual_information

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "known_information.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dim", "nats"),
    [(5, 1.0)]
    + [
        pytest.param(dim, nats, marks=pytest.mark.long)
        for dim, nats in [(1, 0.0), (1, 1.0), (1, 3.0), (3, 0.3), (5, 0.0), (5, 3.0)]
    ],
)
def test_short_training_estimates_known_information(
    script: dict[str, Any], dim: int, nats: float
) -> None:
    """Within 10 % or 0.05 nats of the truth, by both forms, on 2,000 fresh rows."""
    torch.manual_seed(0)
    draw_rows = script["draw_rows"]
    model = script["train_model"](draw_rows(20_000, dim, nats), dim)
    rows = model.layout.split(draw_rows(2000, dim, nats))
    measures = [mutual_information("x", "y"), joint_mutual_information("x", "y")]
    result = surprisal(model, rows, measures, seed=0, shared=False)
    for measure in measures:
        estimate = result.estimate(measure)
        tolerance = max(0.05, 0.1 * nats)
        assert abs(estimate.value - nats) < tolerance, estimate
