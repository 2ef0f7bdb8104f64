"""Running what is still open of a suite, and showing how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mld.bench.cells import Bench, Cell, distinct, in_order
from mld.bench.eta import Forecast
from mld.bench.executors import Executor, Job
from mld.storage.files import load_json
from mld.storage.locks import lock_holder
from mld_core import RunDirError

if TYPE_CHECKING:
    from rich.table import Table

PATIENCE = 0.2
"""Seconds between looks at the processes."""

Show = Callable[[str], None]


@dataclass
class Course:
    """How a suite fares.

    Args:
        waiting: the cells still to be started, in their order.
        running: the jobs under way, each with the time it began.
    """

    bench: Bench
    cells: Sequence[Cell]
    forecast: Forecast
    waiting: list[Cell]
    running: dict[str, tuple[Cell, Job, float]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    spoken: set[str] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """Cells by what has become of them."""
        states = [
            "running" if cell.key in self.running else self.bench.state(cell) for cell in self.cells
        ]
        return {state: states.count(state) for state in ("done", "failed", "running", "open")}

    def stage(self, cell: Cell) -> str:
        """What a running cell does at the moment."""
        try:
            return str(load_json(self.bench.run_dir(cell).status)["stage"])
        except RunDirError:
            return "starts"

    def left(self, slots: int) -> float | None:
        """Seconds to go, from the cells that are done; None before the first is."""
        if not self.forecast.measured:
            return None
        now = time.monotonic()
        begun = [
            max(self.forecast.of(cell) - (now - since), 0)
            for cell, _, since in self.running.values()
        ]
        total = self.forecast.total(self.waiting, 1) + sum(begun)
        return max([total / slots, *begun])

    def next(self, show: Show) -> Cell | None:
        """The next cell to start; None while a run that another suite left holds all of them."""
        for cell in list(self.waiting):
            if self.bench.state(cell) != "open":
                self.waiting.remove(cell)
            elif who := lock_holder(self.bench.run_dir(cell).path):
                told = f"waits    {cell.at}: {who} is still at it"
                show("" if told in self.spoken else told)
                self.spoken.add(told)
            else:
                self.waiting.remove(cell)
                return cell
        return None


def run_cells(bench: Bench, cells: Sequence[Cell], executor: Executor, threads: int) -> Course:
    """Run every open cell. KeyboardInterrupt ends the runs first; each goes on next time."""
    cells = distinct(cells)
    waiting = in_order(cell for cell in cells if bench.state(cell) == "open")
    course = Course(bench, cells, Forecast(bench, cells), waiting)
    with _shown(course, executor.slots) as show:
        try:
            while course.waiting or course.running:
                _start(course, executor, threads, show)
                _settle(course, show)
                show("")
                time.sleep(PATIENCE)
        except BaseException:
            jobs = [job for _, job, _ in course.running.values()]
            for job in jobs:
                job.stop()
            for job in jobs:
                job.wait()
            raise
    return course


def _start(course: Course, executor: Executor, threads: int, show: Show) -> None:
    bench = course.bench
    while len(course.running) < executor.slots and (cell := course.next(show)):
        job = executor.start(bench.spec(cell), bench.run_dir(cell).path, bench.log(cell), threads)
        course.running[cell.key] = (cell, job, time.monotonic())
        show(f"started  {cell.at}")


def _settle(course: Course, show: Show) -> None:
    """Note the runs that have ended."""
    for key, (cell, job, since) in list(course.running.items()):
        code = job.poll()
        if code is None:
            continue
        del course.running[key]
        seconds = time.monotonic() - since
        if code == 0 and course.bench.state(cell) == "done":
            course.forecast.add(cell, seconds)
            show(f"done     {cell.at}, {clock(seconds)}")
        else:
            course.bench.fail(cell, code)
            show(f"failed   {cell.at}: {course.bench.failure(cell)}")


@contextmanager
def _shown(course: Course, slots: int) -> Iterator[Show]:
    """A live table on a terminal; elsewhere a line for each beginning and end."""
    if not sys.stderr.isatty():
        yield lambda line: _tell(course, slots, line)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:

        def show(line: str) -> None:
            if line and not line.startswith("started"):
                live.console.print(line, highlight=False, markup=False)
            live.update(_table(course, slots))

        yield show


def _tell(course: Course, slots: int, line: str) -> None:
    if line.startswith(("done", "failed")):
        line = f"{line} [{_summary(course, slots)}]"
    if line:
        print(line, file=sys.stderr, flush=True)


def _summary(course: Course, slots: int) -> str:
    left = course.left(slots)
    counts = ", ".join(f"{count} {state}" for state, count in course.counts().items() if count)
    rest = "" if left is None else f", about {clock(left)} left"
    return f"{counts}; {clock(time.monotonic() - course.began)}{rest}"


def _table(course: Course, slots: int) -> Table:
    from rich.table import Table

    title = _summary(course, slots)
    table = Table(title=title, box=None, title_justify="left", min_width=60)
    for head in ("cell", "stage", "time"):
        table.add_column(head)
    for cell, _, since in course.running.values():
        table.add_row(str(cell.at), course.stage(cell), clock(time.monotonic() - since))
    return table


def clock(seconds: float) -> str:
    """A duration as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
