"""How far long work is, told on stderr: a bar on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Show = Callable[[int, float, float], None]
"""Tells the steps done, the loss, and the rate in rows per second."""


@contextmanager
def progress(job: str, done: int, steps: int) -> Iterator[Show]:
    """Show a training that has made `done` of its steps; may be called as often as one likes."""
    if sys.stderr.isatty():
        with _bar(job, done, steps) as show:
            yield show
    else:
        yield _lines(job, done, steps)


@contextmanager
def counting(job: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show work of `total` parts; it is told how many are done."""
    if sys.stderr.isatty():
        with _rich(job, total, 0) as (bar, task):
            yield lambda done: bar.update(task, completed=done)
        return
    tenth = 0

    def show(done: int) -> None:
        nonlocal tenth
        if 10 * done // total > tenth:
            tenth = 10 * done // total
            sys.stderr.write(f"{job}: {done} of {total}\n")

    yield show


@contextmanager
def _rich(job: str, total: int, done: int) -> Iterator[tuple[Progress, TaskID]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeLeftColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task(job, total=total, completed=done, told="")


@contextmanager
def _bar(job: str, done: int, steps: int) -> Iterator[Show]:
    with _rich(job, steps, done) as (bar, task):

        def show(done: int, loss: float, rate: float) -> None:
            bar.update(task, completed=done, told=f"loss {loss:.4g}  {rate:,.0f} rows/s")

        yield show


def _lines(job: str, done: int, steps: int) -> Show:
    began, first, tenth = time.monotonic(), done, 10 * done // steps

    def show(done: int, loss: float, rate: float) -> None:
        nonlocal tenth
        if 10 * done // steps == tenth:
            return
        tenth = 10 * done // steps
        left = (time.monotonic() - began) * (steps - done) / (done - first)
        sys.stderr.write(
            f"{job}: {done} of {steps} steps, loss {loss:.4g}, {rate:,.0f} rows/s, "
            f"{left:.0f} s left\n"
        )

    return show
