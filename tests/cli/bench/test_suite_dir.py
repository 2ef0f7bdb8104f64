"""The folder of a suite: states, failures and locks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mld.bench.suite import load_suite
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, make_trials
from mld_core import Registry, RunDirError


@pytest.mark.parametrize(
    ("exit_code", "log", "reason"),
    [
        (5, "error: 2 are bad:\n  row 1: torn\n  row 2\n", "2 are bad: row 1: torn"),
        (1, "RuntimeError: no luck\ninternal error in mld\n", "RuntimeError: no luck"),
        (-9, "diffuse: 10 of 20 steps\n", "ended by SIGKILL"),
        (3, "", "(no output)"),
    ],
)  # fmt: skip
def test_reason_of_a_failure_is_the_end_of_its_log(
    suite_dir: SuiteDir, trials: list[Trial], exit_code: int, log: str, reason: str
) -> None:
    for trial in trials[:2]:
        suite_dir.log(trial).parent.mkdir(parents=True, exist_ok=True)
        suite_dir.log(trial).write_text(log)
        suite_dir.mark_failed(trial, exit_code)
    assert suite_dir.failure(trials[0]).startswith(reason)
    assert suite_dir.failure(trials[0]).endswith(f"(exit code {exit_code})")
    ((who, why),) = suite_dir.failures(trials)
    assert who == "a+b, mld, seed 0 and 1 more"
    assert why.endswith(f": see logs/{trials[0].key}.log")


def test_equal_failures_are_listed_once(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    path = write_suite(("paper: {", "nope: {diffuse: {method: nope}}\n  paper: {"))
    trials = make_trials(load_suite(path), Registry())
    ((who, why),) = SuiteDir(tmp_path / "out").failures(trials)
    assert who == "a+b, nope, seed 0 and 1 more"
    assert "no plugin of kind 'nope'" in why


def test_finished_trial_is_done_despite_a_failure(finished: SuiteDir, trials: list[Trial]) -> None:
    finished.mark_failed(trials[0], 6)
    assert finished.state(trials[0]) == "done"


def test_lock_admits_only_shards_of_one_number(tmp_path: Path) -> None:
    suite_dir = SuiteDir(tmp_path / "out")
    with suite_dir.lock("1/2"), suite_dir.lock("2/2"):
        with (
            pytest.raises(RunDirError, match="1-of-2 is in use by process"),
            suite_dir.lock("1/2"),
        ):
            pass
        for other in ("", "1/3"):
            message = "of-2 is in use by process"
            with pytest.raises(RunDirError, match=message), suite_dir.lock(other):
                pass
    with suite_dir.lock(""):
        for shard in ("", "1/2"):
            with pytest.raises(RunDirError, match="out is in use by"), suite_dir.lock(shard):
                pass
