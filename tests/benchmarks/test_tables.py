"""The scores of benchmarks of tables, against closed forms."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "tables.py"))


@pytest.fixture(scope="module")
def solubility() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "solubility.py"))


def test_crps_of_a_normal_distribution(tables: dict[str, Any], solubility: dict[str, Any]) -> None:
    """At its mean it is (√2 − 1)/√π, whatever the number of draws."""
    expected = (math.sqrt(2) - 1) / math.sqrt(math.pi)
    draws = np.random.default_rng(0).standard_normal((4, 50_000))
    of_rows = torch.from_numpy(draws.T[:, :, None]), torch.zeros(50_000, 1)
    assert tables["crps"](*of_rows) == pytest.approx(expected, abs=0.01)
    ends = draws.min(0), draws.max(0)
    estimates = solubility["Estimates"](draws.mean(0), draws, *ends, are_draws=True)
    mae, crps, held, width = solubility["scores"](estimates, np.zeros(50_000))
    assert mae == pytest.approx(math.sqrt(2 / math.pi) / 2, abs=0.01)
    assert crps == pytest.approx(expected, abs=0.01)
    assert held == pytest.approx(1 - 2 / 2**4, abs=0.01)
    assert width == pytest.approx((ends[1] - ends[0]).mean())


def test_hidden_cells_of_test_rows_alone_are_scored(tables: dict[str, Any]) -> None:
    problem = tables["Problem"].make("wine", 0)
    assert not problem.hidden.all(1).any()
    assert problem.hidden.mean() == pytest.approx(0.3, abs=0.02)
    assert problem.test.sum() == 36
    truth = problem.values[problem.test]
    guess = np.where(problem.hidden[problem.test], truth, np.nan)  # the others are not looked at
    score = tables["score"](problem, tables["Filled"](guess))
    assert (score.rmse, score.error_rate) == (0, 0)
    assert math.isnan(score.crps)
    off = tables["Filled"](guess + problem.scale, np.stack([guess, guess + 2 * problem.scale]))
    score = tables["score"](problem, off)
    assert score.rmse == pytest.approx(1)
    assert score.error_rate == 1


def test_an_imputer_of_scikit_learn_fills_the_gaps(tables: dict[str, Any]) -> None:
    problem = tables["Problem"].make("wine", 0)
    filled = tables["fill_by_sklearn"]("nearest neighbours", problem)
    assert np.isfinite(filled.best).all()
    assert tables["score"](problem, filled).rmse < 0.9
