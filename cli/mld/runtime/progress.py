"""Progress of long work on stderr: a bar on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TrainingProgress = Callable[[int, float, float], None]
"""Called with the number of finished steps, the loss, and the rate in rows per second."""


@contextmanager
def training_progress(job: str, step: int, steps: int) -> Iterator[TrainingProgress]:
    """Progress of a training of `steps` steps that starts, or resumes, at `step`."""
    if not sys.stderr.isatty():
        yield _training_lines(job, step, steps)
        return
    with _bar(job, steps, step) as (bar, task):

        def show(step: int, loss: float, rate: float) -> None:
            bar.update(task, completed=step, detail=f"loss {loss:.4g}  {rate:,.0f} rows/s")

        yield show


def _training_lines(job: str, step: int, steps: int) -> TrainingProgress:
    start, first, tenth = time.monotonic(), step, 10 * step // steps

    def show(step: int, loss: float, rate: float) -> None:
        nonlocal tenth
        if 10 * step // steps == tenth:
            return
        tenth = 10 * step // steps
        remaining = (time.monotonic() - start) * (steps - step) / (step - first)
        sys.stderr.write(
            f"{job}: {step} of {steps} steps, loss {loss:.4g}, {rate:,.0f} rows/s, "
            f"{remaining:.0f} s left\n"
        )

    return show


@contextmanager
def counting(job: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress of work of `total` parts; the yielded function takes the number of finished ones."""
    if sys.stderr.isatty():
        with _bar(job, total, 0) as (bar, task):
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
def _bar(job: str, total: int, completed: int) -> Iterator[tuple[Progress, TaskID]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task(job, total=total, completed=completed, detail="")
