"""Progress of long work on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from mld.runtime.progress_relay import shown_by_parent

if TYPE_CHECKING:
    from rich.progress import Progress

Part = TypeVar("Part")

Clock = Callable[[], float]
"""Seconds since some fixed moment."""

TrainingProgress = Callable[[int, float, float], None]
"""Called with the number of finished steps, the loss, and the rate in rows per second."""

_Show = Callable[[int, Callable[[], str]], None]
"""Shows the number of finished parts and a detail, unless it is too early to show anything."""

RATE_SECONDS = 30.0
"""A rate, and the time left at it, is that of the last so many seconds."""
SAMPLE_SECONDS = 0.1
"""The shortest time between two states of the work that a rate remembers."""
SHORT_SECONDS = 2.0
"""Counted work that takes less shows nothing; lines of it are at least as far apart."""
FIRST_LINE_SECONDS = 10.0
"""A training whose first tenth takes longer shows a line after this time, too."""
REFRESH_SECONDS = 0.2
"""The shortest time between two states of a bar."""


class RecentRate:
    """The rate of some work over the last half minute; what precedes the first update is ignored.

    Pauses in that time count: the rate is what the clock shows, not what the work could do.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, done: int) -> None:
        """Record how many parts are finished now."""
        now, samples = self._clock(), self._samples
        if len(samples) > 2 and now - samples[-2][0] < SAMPLE_SECONDS:
            samples.pop()
        samples.append((now, done))
        # One sample from before the period is kept, so that the rate covers the whole of it.
        while len(samples) > 2 and samples[1][0] <= now - RATE_SECONDS:
            samples.popleft()

    @property
    def per_second(self) -> float | None:
        """Parts per second; None until there are two updates at different times."""
        if not self._samples:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return (last - first) / (end - start) if end > start else None


@shown_by_parent
@contextmanager
def training_progress(
    job: str, step: int, steps: int, clock: Clock = time.monotonic
) -> Iterator[TrainingProgress]:
    """Progress of a training of `steps` steps that starts, or resumes, at `step`.

    The time left is at the rate of the last half minute. Elsewhere than on a terminal there is a
    line at every tenth of the steps. Several trainings may show their progress at the same time.
    """
    recent = RecentRate(clock)
    if sys.stderr.isatty():
        shown = _bar(job, "steps", step, steps, clock, after=0, keep=True)
    else:
        shown = _lines(job, "steps", step, steps, clock, first=FIRST_LINE_SECONDS, gap=0)
    with shown as show:

        def show_training(step: int, loss: float, rate: float) -> None:
            recent.update(step)
            left = _time_left(recent, steps - step)
            show(step, lambda: ", ".join([f"loss {loss:.4g}", f"{rate:,.0f} rows/s", *left]))

        yield show_training


@shown_by_parent
@contextmanager
def counting(
    job: str, total: int, unit: str = "rows", clock: Clock = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Progress of work of `total` parts; the yielded function takes the number of finished ones.

    Nothing is shown in the first two seconds, so that short work is silent. A bar disappears at the
    end of the work. Time is measured from the first call on, which may be before the first part.
    """
    recent = RecentRate(clock)
    if sys.stderr.isatty():
        shown = _bar(job, unit, 0, total, clock, after=SHORT_SECONDS, keep=False)
    else:
        shown = _lines(job, unit, 0, total, clock, first=0, gap=SHORT_SECONDS)
    with shown as show:

        def show_count(done: int) -> None:
            recent.update(done)
            show(done, lambda: ", ".join([*_rate(recent, unit), *_time_left(recent, total - done)]))

        yield show_count


def with_progress(job: str, parts: Sequence[Part], unit: str = "rows") -> Iterator[Part]:
    """The parts of some work, with the progress of the work that is done on each in turn.

    The first part is not timed, since it may load libraries or draw all others.
    """
    with counting(job, len(parts), unit) as show_progress:
        for done, part in enumerate(parts, start=1):
            yield part
            show_progress(done)


def _rate(recent: RecentRate, unit: str) -> list[str]:
    """The rate in words; nothing as long as it is unknown."""
    rate = recent.per_second
    if rate is None:
        return []
    return [f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"]


def _time_left(recent: RecentRate, remaining: int) -> list[str]:
    """The time that the remaining parts take at the recent rate; nothing if it is unknown."""
    rate = recent.per_second
    return [f"{timedelta(seconds=round(remaining / rate))} left"] if rate and remaining else []


@contextmanager
def _lines(
    job: str, unit: str, done: int, total: int, clock: Clock, first: float, gap: float
) -> Iterator[_Show]:
    """Lines at every tenth, and one `first` seconds after the first call; `gap` seconds apart."""
    tenth = 10 * done // max(total, 1)
    shown_at = first_at = -math.inf

    def show(done: int, detail: Callable[[], str]) -> None:
        nonlocal tenth, shown_at, first_at
        now, reached = clock(), 10 * done // max(total, 1)
        if shown_at == -math.inf:
            shown_at, first_at = now, now + first
        if (reached > tenth or now >= first_at) and now - shown_at >= gap:
            tenth, shown_at, first_at = reached, now, math.inf
            sys.stderr.write(f"{job}: {done:,} of {total:,} {unit}, {detail()}\n")

    yield show


@contextmanager
def _bar(
    job: str, unit: str, done: int, total: int, clock: Clock, after: float, keep: bool
) -> Iterator[_Show]:
    """A bar that appears after some seconds; it stays on the terminal at the end if `keep`."""
    due_at = clock() + after
    with ExitStack() as stack:
        task = None

        def show(done: int, detail: Callable[[], str]) -> None:
            nonlocal due_at, task
            now = clock()
            if now < due_at and (task is None or done < total):
                return
            due_at = now + REFRESH_SECONDS
            if task is None:
                task = stack.enter_context(_BARS.task(job, unit, total, keep))
            task(done, detail())

        yield show


def note(text: str) -> None:
    """Write a line to stderr, above the bars if there are any."""
    _BARS.write(text)


class _Bars:
    """The bars of this process: one display, open while any bar is, since rich allows only one."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def task(
        self, job: str, unit: str, total: int, keep: bool
    ) -> Iterator[Callable[[int, str], None]]:
        """Add a bar; the yielded function sets its finished parts and its detail."""
        with self._lock:
            progress = self._progress = self._progress or _start_display()
            self._open += 1
            task = progress.add_task(job, total=total, unit=unit, detail="")
        try:
            yield lambda done, detail: progress.update(
                task, completed=done, detail=detail, refresh=True
            )
        finally:
            with self._lock:
                self._open -= 1
                if not keep:
                    progress.remove_task(task)
                if self._open:
                    progress.refresh()
                else:
                    # A display without bars would leave an empty line.
                    progress.live.transient = not progress.tasks
                    progress.stop()
                    self._progress = None

    def write(self, text: str) -> None:
        """Write a line above the bars."""
        with self._lock:
            if self._progress:
                self._progress.console.print(text, markup=False, highlight=False)
            else:
                sys.stderr.write(f"{text}\n")


_BARS = _Bars()


def _start_display() -> Progress:
    """A display that is drawn when a bar changes; it has no thread, which a fork would not copy."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[detail]}"),
    )
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
    progress.start()
    return progress
