"""Trainings side by side on a processor, each in a process of its own.

Two small networks on one thread each train faster than one after the other on two threads.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import Any

from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.progress import TrainingProgress, training_progress
from mld.storage.files import load_tensors, save_tensors
from mld.training.checkpoint import flatten, unflatten
from mld.training.job import TrainJob
from mld.training.train import TrainedWeights, finished_weights, train

REPORT_SECONDS = 0.1
"""The shortest time between two reports of a training's progress."""
PARENT_SECONDS = 0.5
"""The time between two looks at whether a worker's parent is alive."""


def parallel_trainings(jobs: int, compute: Compute) -> tuple[int, Compute]:
    """How many of several trainings run at once, and what each of them computes with.

    On a processor as many as it has threads for, each in one process with an equal share of them.
    The share depends on the number of jobs alone and not on which of them are still to be done,
    because the number of threads affects the last bits of weights.
    """
    workers = min(jobs, compute.threads)
    if compute.accelerator != "cpu" or workers < 2:
        return 1, compute
    return workers, replace(compute, devices=1, threads=compute.threads // workers)


@contextmanager
def training_pool(jobs: int, compute: Compute) -> Iterator[TrainingPool | None]:
    """The processes for up to so many trainings at once; None if they run one after the other."""
    workers, _ = parallel_trainings(jobs, compute)
    if workers == 1:
        yield None
        return
    with TrainingPool(workers) as pool:
        yield pool


class TrainingPool:
    """Processes that train jobs; they start with `start` or with the first job.

    When the block ends, so do they, whatever they do. They do not run the user's script again, so
    that it needs no main guard.
    """

    def __init__(self, workers: int) -> None:
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        self.workers = workers
        context = get_context("loky")
        self._stop = context.Event()
        self._reports = context.SimpleQueue()
        self._executor = ProcessPoolExecutor(
            workers, context=context, initializer=_start, initargs=(self._stop, self._reports)
        )
        self._printer = Thread(target=_show_reports, args=(self._reports,), daemon=True)
        self._this_process = Lock()

    def __enter__(self) -> TrainingPool:
        self._printer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(kill_workers=True)
        self._reports.put(None)
        self._printer.join()

    def start(self) -> None:
        """Start the processes without waiting for them; they import libraries for seconds."""
        for _ in range(self.workers):
            self._executor.submit(_load_libraries)

    def interrupt(self) -> None:
        """Have all trainings save their checkpoints and raise KeyboardInterrupt."""
        self._stop.set()

    def train(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, in one of the processes; may be called from several threads.

        A job that cannot be sent to another process is trained in this one.
        """
        with TemporaryDirectory(prefix="mld-") as folder:
            path = Path(folder) / "rows.safetensors"
            rows = flatten({"rows": job.rows, "validation": job.validation})
            save_tensors(path, {name: x.contiguous() for name, x in rows.items()}, {})
            without_rows = job.moved({}, {})
            try:
                self._executor.submit(_train, without_rows, path, context).result()
            except PicklingError:
                # One at a time, since trainings in one process share torch's random generator.
                with self._this_process:
                    return train(job, context, should_stop=self._stop.is_set)
        return finished_weights(job, context)


_state: dict[str, Any] = {}
"""In a worker: what its pool has given it."""


def _start(stop: Any, reports: Any) -> None:
    """Prepare a worker's process, which ends with its parent."""
    _state.update(stop=stop, reports=reports)
    # Ctrl-C reaches all processes of a terminal; a training handles it, and an idle worker waits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _load_libraries() -> None:
    """In a worker: what every training imports, beyond this module's imports."""
    import lightning_fabric  # noqa: F401


def _end_with_parent(parent: int) -> None:
    """End this process when its parent has died; what it has saved is complete."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _train(job: TrainJob, rows: Path, context: RunContext) -> None:
    """In a worker: train a job whose rows are in a file."""
    groups = unflatten(load_tensors(rows)[0])
    job = job.moved(groups["rows"], groups["validation"])
    train(job, context, should_stop=_state["stop"].is_set, progress=_reporting)


@contextmanager
def _reporting(job: str, step: int, steps: int) -> Iterator[TrainingProgress]:
    """Progress of a training, shown by the process of the pool."""
    first, due_at = step, 0.0

    def report(step: int, loss: float, rate: float) -> None:
        nonlocal due_at
        now = time.monotonic()
        if now >= due_at or step == steps:
            due_at = now + REPORT_SECONDS
            _state["reports"].put((job, first, steps, step, loss, rate))

    yield report


def _show_reports(reports: Any) -> None:
    """Show the progress of all workers until a None comes."""
    shows: dict[str, tuple[TrainingProgress, ExitStack]] = {}
    with ExitStack() as unfinished:
        while (report := reports.get()) is not None:
            job, first, steps, step, loss, rate = report
            if job not in shows:
                stack = unfinished.enter_context(ExitStack())
                shows[job] = stack.enter_context(training_progress(job, first, steps)), stack
            show, stack = shows[job]
            show(step, loss, rate)
            if step == steps:
                stack.close()
                del shows[job]
