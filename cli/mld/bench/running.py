"""Running what is still open of a suite, and showing how far it is."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mld.artefact import load_json
from mld.bench.cells import Bench, Cell, in_order
from mld.bench.executors import Executor, Job
from mld.rundir import STAGES
from mld_core import ArtefactError

PATIENCE = 0.2
"""Seconds between looks at the processes."""


@dataclass
class Course:
    """How a suite fares.

    Args:
        running: the jobs under way, each with the time it began.
        took: seconds of the cells that this process has finished.
    """

    bench: Bench
    cells: Sequence[Cell]
    running: dict[str, tuple[Cell, Job, float]] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def counts(self) -> dict[str, int]:
        """Cells by what has become of them."""
        states = [self.bench.state(cell) for cell in self.cells]
        counts = {state: states.count(state) for state in ("done", "failed", "open")}
        counts["open"] -= len(self.running)
        return {**counts, "running": len(self.running)}

    def stage(self, cell: Cell) -> str:
        """What a running cell does at the moment."""
        try:
            return str(load_json(self.bench.run_dir(cell).status)["stage"])
        except ArtefactError:
            return "starts"

    def left(self, slots: int) -> float | None:
        """Seconds to go, from the cells finished so far; None before the first is."""
        if not self.took:
            return None
        mean = sum(self.took) / len(self.took)
        now = time.monotonic()
        begun = sum(max(mean - (now - since), 0) for _, _, since in self.running.values())
        return (mean * self.counts()["open"] + begun) / slots


def run_cells(bench: Bench, cells: Sequence[Cell], executor: Executor, threads: int) -> Course:
    """Run every open cell. KeyboardInterrupt ends the runs first; each goes on next time."""
    waiting = deque(cell for cell in in_order(cells) if bench.state(cell) == "open")
    course = Course(bench, cells)
    with _shown(course, executor.slots) as show:
        try:
            while waiting or course.running:
                while waiting and len(course.running) < executor.slots:
                    cell = waiting.popleft()
                    out, log = bench.run_dir(cell).path, bench.log(cell)
                    job = executor.start(bench.spec(cell), out, log, threads)
                    course.running[cell.key] = (cell, job, time.monotonic())
                    show(f"started  {cell.at}")
                for key, (cell, job, since) in list(course.running.items()):
                    code = job.poll()
                    if code is None:
                        continue
                    del course.running[key]
                    show(_ended(course, cell, code, time.monotonic() - since))
                show("")
                time.sleep(PATIENCE)
        except BaseException:
            for _, job, _ in course.running.values():
                job.stop()
            raise
    return course


def _ended(course: Course, cell: Cell, code: int, seconds: float) -> str:
    if code == 0 and course.bench.state(cell) == "done":
        course.took.append(seconds)
        return f"done     {cell.at}, {seconds:.0f} s"
    course.bench.fail(cell, code)
    return f"failed   {cell.at}: {course.bench.failure(cell)}"


@contextmanager
def _shown(course: Course, slots: int) -> Iterator[object]:
    """A live table on a terminal, a line for each beginning and end elsewhere."""
    if not sys.stderr.isatty():
        yield lambda line: line and print(line, file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:

        def show(line: str) -> None:
            if line.startswith(("done", "failed")):
                live.console.print(line, highlight=False)
            live.update(_table(course, slots))

        yield show


def _table(course: Course, slots: int) -> object:
    from rich.table import Table

    counts, left = course.counts(), course.left(slots)
    title = ", ".join(f"{count} {state}" for state, count in counts.items())
    rest = "" if left is None else f", about {clock(left)} left"
    spent = clock(time.monotonic() - course.began)
    table = Table(title=f"{title}; {spent}{rest}", box=None, title_justify="left", min_width=60)
    for head in ("cell", "stage", "time"):
        table.add_column(head)
    for cell, _, since in course.running.values():
        table.add_row(str(cell.at), course.stage(cell), clock(time.monotonic() - since))
    return table


def estimate(bench: Bench, cells: Sequence[Cell], slots: int) -> float | None:
    """Seconds for the open cells, if they take as long as the done ones have; None before any."""
    done = [cell for cell in cells if bench.state(cell) == "done"]
    if not done:
        return None
    took = [sum(map(bench.run_dir(cell).seconds_of, STAGES)) for cell in done]
    waiting = sum(bench.state(cell) == "open" for cell in cells)
    return sum(took) / len(took) * waiting / slots


def clock(seconds: float) -> str:
    """A duration as h:mm:ss, or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


__all__ = ["Course", "clock", "estimate", "run_cells"]
