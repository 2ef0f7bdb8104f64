"""Running a suite: which trials are started, and when the runs end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mld.bench.eta import Forecast
from mld.bench.executors import Executor, Job
from mld.bench.runner import SuiteRun, run_trials
from mld.bench.suite import load_suite
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, make_trials
from mld_core import Registry


def test_done_trials_are_not_run_again(
    suite_dir: SuiteDir, trials: list[Trial], instant_executor: Callable[..., Any]
) -> None:
    executor = instant_executor(suite_dir, failing=("paper",))
    run_trials(suite_dir, trials, executor)
    assert sorted(executor.started) == sorted(trial.key for trial in trials)
    states = [suite_dir.state(trial) for trial in trials]
    assert (states.count("done"), states.count("failed")) == (2, 2)
    failed = next(trial for trial in trials if suite_dir.state(trial) == "failed")
    assert suite_dir.failure(failed) == "no luck (exit code 5)"

    executor = instant_executor(suite_dir)
    run_trials(suite_dir, trials, executor)
    assert executor.started == []
    suite_dir.clear_failure(failed)
    run_trials(suite_dir, trials, executor)
    assert executor.started == [failed.key]


def test_trial_with_a_locked_run_waits(
    suite_dir: SuiteDir,
    trials: list[Trial],
    instant_executor: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lock = suite_dir.run_dir(trials[0]).lock()
    lock.__enter__()
    executor = instant_executor(suite_dir)
    start = executor.start

    def release_before_third(spec: Path, out: Path, log: Path) -> Job:
        if len(executor.started) == 2:
            lock.__exit__(None, None, None)
        return start(spec, out, log)

    monkeypatch.setattr(executor, "start", release_before_third)
    run_trials(suite_dir, trials, executor)
    assert executor.started[-1] == trials[0].key
    assert sorted(executor.started) == sorted(trial.key for trial in trials)
    line = f"waits    {trials[0].coordinates}: in use by process {os.getpid()}"
    assert capsys.readouterr().err.count(line) == 1


def test_equal_specs_share_a_run(
    write_suite: Callable[..., Path],
    finish: Callable[..., None],
    exited_job: type[Job],
    tmp_path: Path,
) -> None:
    path = write_suite(("{diffuse.roles: paper, generate.guidance: 0}", "{}"))
    trials = make_trials(load_suite(path), Registry())
    suite_dir = SuiteDir(tmp_path / "out")
    suite_dir.freeze(trials)

    class LateExecutor(Executor):
        slots = 2

        def __init__(self) -> None:
            self.started: list[str] = []

        def start(self, spec: Path, out: Path, log: Path) -> Job:
            self.started.append(out.name)

            class LateJob(exited_job):  # type: ignore[misc, valid-type]
                def poll(self) -> int | None:
                    finish(suite_dir, out.name, 0.8)
                    return super().poll()

            return LateJob(0)

    executor = LateExecutor()
    suite_run = run_trials(suite_dir, trials, executor)
    assert sorted(executor.started) == sorted({trial.key for trial in trials})
    assert suite_run.counts()["done"] == len(executor.started) == 2


def test_interrupt_stops_active_runs(suite_dir: SuiteDir, trials: list[Trial]) -> None:
    stopped = []

    class EndlessExecutor(Executor):
        slots = 2

        def start(self, spec: Path, out: Path, log: Path) -> Job:
            class EndlessJob(Job):
                def poll(self) -> int | None:
                    raise KeyboardInterrupt

                def stop(self) -> None:
                    stopped.append(out.name)

                def wait(self) -> None:
                    assert len(stopped) == 2

            return EndlessJob()

    with pytest.raises(KeyboardInterrupt):
        run_trials(suite_dir, trials, EndlessExecutor())
    assert len(stopped) == 2
    assert {suite_dir.state(trial) for trial in trials} == {"open"}


def test_stage_of_a_running_trial(suite_dir: SuiteDir, trials: list[Trial]) -> None:
    suite_run = SuiteRun(suite_dir, trials, Forecast(suite_dir, trials), [])
    assert suite_run.stage(trials[0]) == "starts"
    with suite_dir.run_dir(trials[0]).stage("diffuse"):
        assert suite_run.stage(trials[0]) == "diffuse"
