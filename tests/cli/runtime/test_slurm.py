"""Jobs of a stand-in for Slurm: what they ask for, and how they end and are queued again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mld.config.sections import ComputeSpec
from mld.runtime import mld_process, slurm
from mld.runtime.slurm import Slurm, SlurmJob, Work
from mld_core import ExitCode, SpecError

ONE_NODE = ComputeSpec()


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(job: SlurmJob) -> int:
    wait_for(job.submitted.done)
    code = job.poll()
    assert code is not None
    return code


def script_options(jobs: Path, number: str = "1") -> dict[str, str]:
    lines = (jobs / number / "script").read_text().splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    return dict(option.split("=", 1) for option in options)


def test_missing_submitit_and_missing_slurm_are_errors_with_their_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SpecError, match="there is no Slurm here"):
        Slurm(tmp_path, [])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SpecError, match=r"pip install 'mld-toolkit\[slurm\]'"):
        Slurm(tmp_path, [])


@pytest.mark.parametrize("option", ["partition", "=gpu", "time=4:00:00"])
def test_options_are_checked_before_anything_is_submitted(
    slurm_jobs: Path, tmp_path: Path, option: str
) -> None:
    with pytest.raises(SpecError, match="--slurm"):
        Slurm(tmp_path, [option])


def test_job_asks_for_what_the_spec_computes_with(
    slurm_jobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process on each of two nodes runs the command; options of the user go first."""
    options = ["partition=gpu", "--cpus-per-task=3", "time=60", "reservation=week"]
    cluster = Slurm(tmp_path / "slurm", options)
    compute = ComputeSpec(nodes=2, devices=1, accelerator="gpu", threads=8)
    monkeypatch.setenv("SLURM_JOB_ID", "of the job that submits this one")
    job = cluster.submit("birds", ["--help"], tmp_path / "log", {}, compute)
    assert ended(job) == 0
    assert (tmp_path / "log").read_text().count("Any-to-any generation") == 2
    expected = {
        "job-name": "mld-birds",
        "partition": "gpu",
        "time": "60",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "1",
        "cpus-per-task": "3",
        "reservation": "week",
    }
    options_of_job = script_options(slurm_jobs)
    assert {name: options_of_job.get(name) for name in expected} == expected
    assert cluster.find("birds", tmp_path / "log") is None
    with pytest.raises(SpecError, match=r"compute\.devices: write how many"):
        cluster.submit("birds", ["--help"], tmp_path / "log", {}, ComputeSpec(nodes=2))


def test_local_executor_of_submitit_runs_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "CLUSTER", "local")
    cluster, log = Slurm(tmp_path / "slurm", ["partition=gpu"]), tmp_path / "log"
    jobs = [cluster.submit("a", [word], log, {}, ONE_NODE) for word in ("--help", "--hepl")]
    assert [ended(job) for job in jobs] == [0, 2]
    assert "Any-to-any generation" in log.read_text()


def test_refused_job_is_an_error_with_the_words_of_slurm(slurm_jobs: Path, tmp_path: Path) -> None:
    (slurm_jobs.parent / "bin" / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: none' >&2; exit 1\n"
    )
    with pytest.raises(SpecError, match="Slurm refuses the job: sbatch: error: invalid partition"):
        Slurm(tmp_path, ["partition=none"]).submit("a", ["--help"], tmp_path / "log", {}, ONE_NODE)


def test_queued_job_is_found_by_another_process_and_cancelled(
    slurm_jobs: Path, tmp_path: Path
) -> None:
    (slurm_jobs.parent / "full").touch()
    log = tmp_path / "log"
    first = Slurm(tmp_path / "slurm", []).submit("birds", ["--help"], log, {}, ONE_NODE)
    others = Slurm(tmp_path / "slurm", [])
    assert others.find("fish", log) is None
    job = others.find("birds", log)
    assert job is not None
    assert (job.number, job.state, job.poll()) == (first.number, "PENDING", None)
    job.stop()
    job.wait()
    assert others.find("birds", log) is None
    job.submitted._results_timeout_s = 0
    assert ended(job) == ExitCode.INTERRUPTED
    assert log.read_text() == "error: Slurm has lost the run: job 1 is CANCELLED\n"


SLEEPS = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    Path({stopped!r}).touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
Path({started!r}).touch()
time.sleep(60)
"""


@pytest.fixture
def sleeping_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A command that waits; it leaves a file when it starts, and one when it is asked to stop."""
    files = {name: str(tmp_path / name) for name in ("started", "stopped")}
    code = SLEEPS.format(**files).replace("{", "{{").replace("}", "}}")
    monkeypatch.setattr(mld_process, "BOOTSTRAP", code)
    monkeypatch.setattr(slurm, "PREEMPTION_SECONDS", 0.0)
    return Work([], tmp_path / "log", {})


@pytest.fixture
def when_started(tmp_path: Path) -> Callable[[Callable[[], object]], None]:
    """Does something from an alarm as soon as the command has started."""

    def schedule(action: Callable[[], object]) -> None:
        def look(*_: object) -> None:
            if (tmp_path / "started").exists():
                signal.setitimer(signal.ITIMER_REAL, 0)
                action()

        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)

    return schedule


@pytest.mark.parametrize("at_the_time_limit", [True, False])
def test_stopped_job_lets_its_command_save_its_state(
    sleeping_work: Work,
    when_started: Callable[[Callable[[], object]], None],
    tmp_path: Path,
    at_the_time_limit: bool,
) -> None:
    """At the time limit submitit calls `checkpoint`; before a preemption Slurm sends SIGTERM."""
    queued_again = []
    when_started(
        lambda: (
            queued_again.append(sleeping_work.checkpoint())
            if at_the_time_limit
            else os.kill(os.getpid(), signal.SIGTERM)
        )
    )
    assert sleeping_work() == ExitCode.INTERRUPTED
    assert (tmp_path / "stopped").exists()
    if at_the_time_limit:
        again = queued_again[0].function
        assert (again.words, again.log, again.environment) == ([], tmp_path / "log", {})
