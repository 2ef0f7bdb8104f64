"""Runs the open trials of a suite, and shows the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mld.bench.eta import Forecast
from mld.bench.executors import Executor
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, schedule, unique_runs
from mld.reporting.number_format import format_duration
from mld.runtime.mld_process import Job
from mld.storage.locks import lock_holder
from mld_core import RunDirError

ProgressCallback = Callable[[str], None]
"""Takes one line of progress; "" only refreshes the display."""


@dataclass(frozen=True)
class ActiveRun:
    """A run in progress."""

    trial: Trial
    job: Job
    started: float

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self.started


@dataclass
class SuiteRun:
    """The state of a suite that is being run.

    Args:
        queue: the trials still to be started, in order.
        active: the runs in progress, by key of the trial.
        announced: lines that are to be shown only once, and have been.
    """

    suite_dir: SuiteDir
    trials: Sequence[Trial]
    forecast: Forecast
    queue: list[Trial]
    active: dict[str, ActiveRun] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    announced: set[str] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """The number of trials in each state."""
        states = [
            "running" if trial.key in self.active else self.suite_dir.state(trial)
            for trial in self.trials
        ]
        return {state: states.count(state) for state in ("done", "failed", "running", "open")}

    def stage(self, trial: Trial) -> str:
        """The stage that a running trial has entered last."""
        try:
            run_dir = self.suite_dir.run_dir(trial)
            return str(run_dir.read_json(run_dir.status)["stage"])
        except RunDirError:
            return "starts"

    def seconds_left(self, slots: int) -> float | None:
        """The estimated time to the end; None before any trial is done."""
        if not self.forecast.measured:
            return None
        runs = self.active.values()
        active = [max(self.forecast.seconds(run.trial) - run.seconds, 0) for run in runs]
        total = self.forecast.total_seconds(self.queue) + sum(active)
        return max([total / slots, *active])

    def next_trial(self, show: ProgressCallback) -> Trial | None:
        """Take a trial from the queue; None if other processes hold all their run directories.

        Those are runs that an earlier suite has left behind.
        """
        for trial in list(self.queue):
            if self.suite_dir.state(trial) != "open":
                self.queue.remove(trial)
            elif holder := lock_holder(self.suite_dir.run_dir(trial).path):
                line = f"waits    {trial.coordinates}: in use by {holder}"
                show("" if line in self.announced else line)
                self.announced.add(line)
            else:
                self.queue.remove(trial)
                return trial
        return None


def run_trials(suite_dir: SuiteDir, trials: Sequence[Trial], executor: Executor) -> SuiteRun:
    """Run every open trial, `executor.slots` at a time.

    On KeyboardInterrupt or any other exception it stops the runs in progress first; they resume
    from their checkpoints the next time.
    """
    trials = unique_runs(trials)
    queue = schedule(trial for trial in trials if suite_dir.state(trial) == "open")
    suite_run = SuiteRun(suite_dir, trials, Forecast(suite_dir, trials), queue)
    with _live_display(suite_run, executor.slots) as show:
        try:
            _follow_earlier_runs(suite_run, executor, show)
            while suite_run.queue or suite_run.active:
                _start_runs(suite_run, executor, show)
                _collect_finished(suite_run, show)
                show("")
                time.sleep(executor.poll_seconds)
        except BaseException:
            for run in suite_run.active.values():
                run.job.stop()
            for run in suite_run.active.values():
                run.job.wait()
            raise
    return suite_run


def _follow_earlier_runs(suite_run: SuiteRun, executor: Executor, show: ProgressCallback) -> None:
    """Take the runs that an earlier process of the suite has started as started by this one."""
    suite_dir = suite_run.suite_dir
    for trial in list(suite_run.queue):
        if job := executor.running(suite_dir.run_dir(trial).path, suite_dir.log(trial)):
            suite_run.queue.remove(trial)
            suite_run.active[trial.key] = ActiveRun(trial, job, time.monotonic())
            show(f"goes on  {trial.coordinates}")


def _start_runs(suite_run: SuiteRun, executor: Executor, show: ProgressCallback) -> None:
    suite_dir = suite_run.suite_dir
    while len(suite_run.active) < executor.slots and (trial := suite_run.next_trial(show)):
        out = suite_dir.run_dir(trial).path
        job = executor.start(suite_dir.spec(trial), out, suite_dir.log(trial))
        suite_run.active[trial.key] = ActiveRun(trial, job, time.monotonic())
        show(f"started  {trial.coordinates}")


def _collect_finished(suite_run: SuiteRun, show: ProgressCallback) -> None:
    suite_dir = suite_run.suite_dir
    for key, run in list(suite_run.active.items()):
        if (exit_code := run.job.poll()) is None:
            continue
        del suite_run.active[key]
        trial, seconds = run.trial, run.seconds
        if exit_code == 0 and suite_dir.state(trial) == "done":
            suite_run.forecast.add(trial, seconds)
            show(f"done     {trial.coordinates}, {format_duration(seconds)}")
        else:
            suite_dir.mark_failed(trial, exit_code)
            show(f"failed   {trial.coordinates}: {suite_dir.failure(trial)}")


@contextmanager
def _live_display(suite_run: SuiteRun, slots: int) -> Iterator[ProgressCallback]:
    """A live table on a terminal; elsewhere a line for each run that starts or ends."""
    if not sys.stderr.isatty():
        yield lambda line: _print_line(suite_run, slots, line)
        return
    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:

        def show(line: str) -> None:
            if line and not line.startswith("started"):
                live.console.print(line, highlight=False, markup=False)
            live.update(_progress_table(suite_run, slots))

        yield show


def _print_line(suite_run: SuiteRun, slots: int, line: str) -> None:
    if line.startswith(("done", "failed")):
        line = f"{line} [{_summary(suite_run, slots)}]"
    if line:
        print(line, file=sys.stderr, flush=True)


def _summary(suite_run: SuiteRun, slots: int) -> str:
    counts = [f"{count} {state}" for state, count in suite_run.counts().items() if count]
    summary = f"{', '.join(counts)}; {format_duration(time.monotonic() - suite_run.started)}"
    left = suite_run.seconds_left(slots)
    return summary if left is None else f"{summary}, about {format_duration(left)} left"


def _progress_table(suite_run: SuiteRun, slots: int) -> Table:
    table = Table("trial", "stage", "time", box=None, title_justify="left", min_width=60)
    table.title = _summary(suite_run, slots)
    for run in suite_run.active.values():
        stage = suite_run.stage(run.trial)
        table.add_row(str(run.trial.coordinates), stage, format_duration(run.seconds))
    return table
