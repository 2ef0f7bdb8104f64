"""Trainings side by side on a processor, each in a process of its own.

Two small networks on one thread each train faster than one after the other on two threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
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


class TrainingPool:
    """Processes that train jobs; they start with the first job.

    Leaving the block with an exception interrupts the trainings, which save their checkpoints. The
    processes do not run the user's script again, so that it needs no main guard.
    """

    def __init__(self, workers: int) -> None:
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        context = get_context("loky")
        self._stop = context.Event()
        self._reports = context.SimpleQueue()
        self._executor = ProcessPoolExecutor(
            workers, context=context, initializer=_start, initargs=(self._stop, self._reports)
        )
        self._printer = Thread(target=_show_reports, args=(self._reports,), daemon=True)

    def __enter__(self) -> TrainingPool:
        self._printer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.interrupt()
        self._executor.shutdown()
        self._reports.put(None)
        self._printer.join()

    def interrupt(self) -> None:
        """Have all trainings save their checkpoints and raise KeyboardInterrupt."""
        self._stop.set()

    def train(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, in one of the processes; may be called from several threads."""
        with TemporaryDirectory(prefix="mld-") as folder:
            path = Path(folder) / "rows.safetensors"
            rows = flatten({"rows": job.rows, "validation": job.validation})
            save_tensors(path, {name: x.contiguous() for name, x in rows.items()}, {})
            without_rows = job.moved({}, {})
            self._executor.submit(_train, without_rows, path, context).result()
        return finished_weights(job, context)


_state: dict[str, Any] = {}
"""In a worker: what its pool has given it."""


def _start(stop: Any, reports: Any) -> None:
    """Prepare a worker's process, which ends with its parent."""
    _state.update(stop=stop, reports=reports)
    Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


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
    shows: dict[str, TrainingProgress] = {}
    with ExitStack() as stack:
        while (report := reports.get()) is not None:
            job, first, steps, step, loss, rate = report
            if job not in shows:
                shows[job] = stack.enter_context(training_progress(job, first, steps))
            shows[job](step, loss, rate)
