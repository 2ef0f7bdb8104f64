"""The leaderboard as Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from mld.bench.leaderboard import write_leaderboard
from mld.bench.suite import load_suite
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, make_trials
from mld_core import Registry

COMMAND = "mld bench suite.yaml"


def test_leaderboard_has_means_differences_and_rows(
    finished: SuiteDir, trials: list[Trial], write_suite: Callable[..., Path]
) -> None:
    published = (
        "published: [{method: MVAE, metric: joint_coherence, value: 0.3819, source: recalled}]"
    )
    write_leaderboard(finished, load_suite(write_suite(more=published)).spec, trials, COMMAND)
    text = (finished.path / "leaderboard.md").read_text()
    assert "| mld | 0.850 (± 0.071) |" in text
    assert "| paper − mld | −0.250 (−0.885 to +0.385)" in text
    assert "| MVAE, published | 0.382 (recalled) |" in text
    rows = list(csv.DictReader(finished.results.read_text().splitlines()))
    assert [(row["method"], row["seed"], row["joint_coherence"]) for row in rows] == [
        ("mld", "0", "0.8"),
        ("mld", "1", "0.9"),
        ("paper", "0", "0.5"),
        ("paper", "1", "0.7"),
    ]


def test_variants_evaluated_on_validation_rows_are_named_and_not_compared(
    finished: SuiteDir, trials: list[Trial], write_suite: Callable[..., Path]
) -> None:
    spec = load_suite(write_suite()).spec

    def leaderboard() -> str:
        write_leaderboard(finished, spec, trials, COMMAND)
        return (finished.path / "leaderboard.md").read_text()

    assert "validation rows" not in leaderboard()
    for method, named in (("paper", " of paper"), ("mld", "")):
        for trial in (trial for trial in trials if trial.coordinates.method == method):
            run_dir = finished.run_dir(trial)
            scores = run_dir.read_json(run_dir.metrics) | {"split": "validation"}
            run_dir.write_json(run_dir.metrics, scores)
        text = leaderboard()
        assert f" Samples{named} are conditioned on and evaluated against validation rows." in text
        assert ("| paper − mld | –" in text) == (method == "paper")


def test_only_a_significant_best_is_bold(
    finished: SuiteDir, trials: list[Trial], write_suite: Callable[..., Path]
) -> None:
    spec = load_suite(write_suite()).spec
    write_leaderboard(finished, spec, trials, COMMAND)
    assert "**0.850**" not in (finished.path / "leaderboard.md").read_text()  # two seeds: too wide
    for trial in trials:
        run_dir = finished.run_dir(trial)
        scores = run_dir.read_json(run_dir.metrics)
        value = 0.9 if trial.coordinates.method == "mld" else 0.5
        scores["joint_coherence"]["value"] = value + 0.001 * trial.coordinates.seed
        run_dir.write_json(run_dir.metrics, scores)
    write_leaderboard(finished, spec, trials, COMMAND)
    text = (finished.path / "leaderboard.md").read_text()
    assert "| mld | **0.900** (" in text or "| mld | **0.901** (" in text


def test_trials_that_share_a_run_count_once(
    write_suite: Callable[..., Path], finish: Callable[..., None], tmp_path: Path
) -> None:
    path = write_suite(("{diffuse.roles: paper, generate.guidance: 0}", "{}"))
    trials = make_trials(load_suite(path), Registry())
    suite_dir = SuiteDir(tmp_path / "out")
    for trial in trials:
        finish(suite_dir, trial.key, 0.8)
    write_leaderboard(suite_dir, load_suite(path).spec, trials, COMMAND)
    assert "2 of 2 trials are done." in (suite_dir.path / "leaderboard.md").read_text()
