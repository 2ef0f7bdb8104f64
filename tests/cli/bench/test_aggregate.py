"""Means, intervals and differences over seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mld.bench.aggregate import mean_of, variant_results
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial


def test_mean_has_students_interval() -> None:
    figure = mean_of([0.8, 0.9, 1.0])
    assert figure is not None
    assert (figure.value, figure.std) == pytest.approx((0.9, 0.1))
    assert figure.high - figure.value == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)
    assert mean_of([]) is None


def test_means_and_differences_of_variants(finished: SuiteDir, trials: list[Trial]) -> None:
    mld, paper = variant_results(finished, trials)
    assert mld.figure("joint_coherence").value == pytest.approx(0.85)
    assert paper.difference(mld, "joint_coherence").value == pytest.approx(-0.25)


def test_resumed_training_has_no_time(finished: SuiteDir, trials: list[Trial]) -> None:
    mld = variant_results(finished, trials)[0]
    assert mld.figure("training_seconds").value == 12.5
    for trial in trials:
        for _ in range(1 + trial.coordinates.seed):
            with finished.run_dir(trial).stage("diffuse"):
                pass
    mld = variant_results(finished, trials)[0]
    seconds = {seed: trial.metrics["training_seconds"] for seed, trial in mld.trials.items()}
    assert seconds == {0: 12.5, 1: None}


def test_unknown_column_has_no_figure(finish_suite: Callable[..., Any]) -> None:
    result = finish_suite().results[0]
    assert result.figure("no such column") is None
    assert result.difference(result, "joint_coherence").value == 0


def test_retrieval_is_compared_among_as_many_candidates(
    finished: SuiteDir, trials: list[Trial], add_retrieval: Callable[..., None]
) -> None:
    assert variant_results(finished, trials)[0].figure("candidates") is None
    for trial in trials:
        add_retrieval(finished.run_dir(trial), 0.6 if trial.coordinates.method == "mld" else 0.3)
    mld, paper = variant_results(finished, trials)
    assert mld.figure("joint_retrieval").value == 0.6
    assert mld.figure("conditional_retrieval of real").value == pytest.approx(0.8)
    assert paper.difference(mld, "joint_retrieval").value == pytest.approx(-0.3)
    assert paper.better("conditional_retrieval") == "higher"
    run_dir = finished.run_dir(next(each for each in trials if each.coordinates.method == "paper"))
    scores = run_dir.read_json(run_dir.metrics)
    scores["retrieval"]["joint"]["candidates"] = 81
    run_dir.write_json(run_dir.metrics, scores)
    mld, paper = variant_results(finished, trials)
    assert paper.difference(mld, "joint_retrieval") is None
    assert paper.difference(mld, "joint_frechet") is not None
