"""The scores of benchmarks of tables, against closed forms."""

from __future__ import annotations

import gzip
import math
import runpy
from dataclasses import replace
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
def molecule_tables() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "molecule_tables.py"))


def test_crps_of_a_normal_distribution(
    tables: dict[str, Any], molecule_tables: dict[str, Any]
) -> None:
    """At its mean it is (√2 − 1)/√π, whatever the number of draws."""
    expected = (math.sqrt(2) - 1) / math.sqrt(math.pi)
    draws = np.random.default_rng(0).standard_normal((4, 50_000))
    of_rows = torch.from_numpy(draws.T[:, :, None]), torch.zeros(50_000, 1)
    assert tables["crps"](*of_rows) == pytest.approx(expected, abs=0.01)
    ends = draws.min(0), draws.max(0)
    estimates = molecule_tables["Estimates"](draws.mean(0), draws, *ends, are_draws=True)
    mae, crps, held, width = molecule_tables["scores"](estimates, np.zeros(50_000))
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


def test_columns_of_qm9_are_computed_from_the_molecules(
    molecule_tables: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("rdkit")
    with gzip.open(tmp_path / "qm9_smiles.csv.gz", "wt", encoding="utf-8") as file:
        file.write("smiles\nC1CC1\nO\nCC\n")
    rows = molecule_tables["read_qm9"](tmp_path, 2)
    assert rows == molecule_tables["read_qm9"](tmp_path, 2)
    assert len({row["smiles"] for row in rows}) == 2
    known = {
        "C1CC1": ("1.1703", "0.00", "1"),
        "O": ("-0.8247", "31.50", "0"),
        "CC": ("1.0262", "0.00", "0"),
    }
    for smiles, *numbers in (tuple(row.values()) for row in rows):
        assert tuple(numbers) == known[smiles]


def test_molecules_are_compared_with_the_number_that_was_given(
    molecule_tables: dict[str, Any],
) -> None:
    rd_base = pytest.importorskip("rdkit.rdBase")
    tables, scores_of = molecule_tables["TABLES"], molecule_tables["molecule_scores"]
    with rd_base.BlockLogs():
        smiles, given = ["CC", "C1CC", "O"], np.array([1.0, 7.0, -1.0])
        valid, off = scores_of(tables["qm9"], smiles, given)
        measured = scores_of(tables["esol"], smiles, given)
    assert valid == measured[0] == pytest.approx(2 / 3)
    assert off == pytest.approx((0.0262 + 0.1753) / 2, abs=1e-4)
    assert math.isnan(measured[1])
    line = molecule_tables["table_line"](0, "mld", 3, [0.25, math.nan])
    assert line == "| 0 | mld | 3 | 0.250 | – |"


def test_forests_see_no_empty_cell_and_no_estimated_number(
    molecule_tables: dict[str, Any],
) -> None:
    pytest.importorskip("rdkit")
    table = replace(molecule_tables["TABLES"]["qm9"], trees=5)
    chains = [n + 1 for n in range(60)]
    cells = [
        {"smiles": "C" * n, "logp": str(n / 10), "surface": str(n), "rings": "0"} for n in chains
    ]
    problem = molecule_tables["Problem"].make(table, cells, 0, "test")
    assert problem.empty[problem.split != "test"].mean() == pytest.approx(0.2, abs=0.05)
    assert len(problem.truth) == 12
    estimates = molecule_tables["estimate_by_forests"](problem, 0)
    mae, _, held, _ = molecule_tables["scores"](estimates, problem.truth)
    assert mae < 0.4
    assert held > 0.5
    for row, cell in enumerate(cells):
        for column, is_empty in zip(cell, problem.empty[row], strict=True):
            if is_empty or (column == "logp" and problem.split[row] == "test"):
                cell[column] = "C" if column == "smiles" else "1e6"
    again = molecule_tables["estimate_by_forests"](problem, 0)
    assert (again.best == estimates.best).all()
    assert (again.quantiles == estimates.quantiles).all()


def test_an_imputer_of_scikit_learn_fills_the_gaps(tables: dict[str, Any]) -> None:
    problem = tables["Problem"].make("wine", 0)
    filled = tables["fill_by_sklearn"]("nearest neighbours", problem)
    assert np.isfinite(filled.best).all()
    assert tables["score"](problem, filled).rmse < 0.9
