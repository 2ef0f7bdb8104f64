"""The comparison of two suites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mld.app import app
from mld.bench.compare import compare
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial
from mld_core import RunDirError


def test_compare_pairs_variants_by_seed(
    finished: SuiteDir,
    trials: list[Trial],
    finish: Callable[..., None],
    coherence_of: Callable[[Trial], float],
    tmp_path: Path,
) -> None:
    other = SuiteDir(tmp_path / "other")
    other.freeze(trials)
    for trial in trials:
        finish(other, trial.key, coherence_of(trial) + 0.05)
    rows = compare(finished, other)
    assert [row["variant"] for row in rows] == ["mld", "paper"]
    assert rows[0]["joint_coherence"]["value"] == pytest.approx(0.05)
    assert rows[0]["digit psnr"] == {"value": 0, "low": 0, "high": 0, "std": 0, "n": 2}
    with pytest.raises(RunDirError, match=r"nothing contains no suite: trials\.json is missing"):
        compare(finished, SuiteDir(tmp_path / "nothing"))
    printed = CliRunner().invoke(
        app, ["bench", "compare", str(finished.path), str(other.path), "--json"]
    )
    assert json.loads(printed.stdout)[0]["joint_coherence"]["n"] == 2
