"""Estimates by a trained network of mutual information that is known."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "known_information.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("network", ["residual-mlp", "transformer"])
@pytest.mark.parametrize("world", ["classes, 2 variables", "normal, 0", "normal, 3"])
def test_estimates_of_known_information(script: dict[str, Any], world: str, network: str) -> None:
    """Within twice the aim, by one network; intervals contain the truth and are narrow."""
    known = script["WORLDS"][world]
    for measure, estimate in script["estimate_named"](world, 0, network).items():
        error = abs(estimate.value - known.truths[measure])
        assert error < 2 * script["TOLERANCE"], (measure, estimate)
        assert error < 1.5 * estimate.half_width + 0.02, (measure, estimate)


def test_worlds_have_the_information_that_they_claim(script: dict[str, Any]) -> None:
    """Mutual information of normal variables by their covariance, of classes by their rows."""
    for name, world in script["WORLDS"].items():
        z = world.draw(20_000, torch.Generator().manual_seed(1)).double()
        dims = list(world.dims.values())
        assert z.shape[1] == sum(dims)
        if name.startswith("normal"):
            covariances = [part.T.cov() for part in (z[:, : dims[0]], z[:, dims[0] :], z)]
            one, other, both = (float(torch.logdet(covariance)) for covariance in covariances)
            assert (one + other - both) / 2 == pytest.approx(world.truths["I(a; b)"], abs=0.02)
        else:
            # Classes are drawn first; each variable determines them.
            label = torch.randint(10, (len(z),), generator=torch.Generator().manual_seed(1))
            for part in z.split(dims, 1):
                fitted = LinearDiscriminantAnalysis().fit(part, label)
                assert fitted.score(part, label) > 0.998
