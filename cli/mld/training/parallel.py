"""Trainings on a processor in processes of their own: several side by side, or one that is shared.

Two small networks on one thread each train faster than one after the other on two threads, and so
do two halves of a batch.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
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
from mld.training.ranks import RankLostError, SharedMemoryRanks
from mld.training.train import (
    CHECKPOINT_SECONDS,
    TrainedWeights,
    finished_weights,
    launch,
    train,
    train_by,
)

MIN_SHARED_ROWS = 256
"""Rows of a batch that are worth a process: with fewer, the cost of a step itself weighs more."""
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


def shared_training(batch_size: int, compute: Compute, pool: TrainingPool | None) -> Compute:
    """What a training by `TrainingPool.train_together` computes with; as given if not worth it."""
    processes = min(pool.workers if pool else 1, batch_size // MIN_SHARED_ROWS)
    can_share = compute.devices == 1 and hasattr(socket, "AF_UNIX")
    if processes < 2 or batch_size % processes or not can_share:
        return compute
    return replace(compute, processes=processes, threads=compute.threads // processes)


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
        with _rows_file(job) as (without_rows, path):
            try:
                self._executor.submit(_train, without_rows, path, context).result()
            except PicklingError:
                # One at a time, since trainings in one process share torch's random generator.
                with self._this_process:
                    return train(job, context, should_stop=self._stop.is_set)
        return finished_weights(job, context)

    def train_together(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, in as many of the processes as the context says, which share every batch."""
        return train_by(partial(self._launch_ranks, job, context), job, context)

    def _launch_ranks(self, job: TrainJob, context: RunContext) -> None:
        with _rows_file(job) as (without_rows, path):
            shares = [
                self._executor.submit(_train_share, without_rows, path, context, rank)
                for rank in range(context.compute.processes)
            ]
            try:
                wait(shares)
            except BaseException:
                self.interrupt()
                wait(shares)
                raise
        errors = [error for share in shares if (error := share.exception()) is not None]
        if errors:
            raise min(errors, key=lambda error: isinstance(error, RankLostError))


@contextmanager
def _rows_file(job: TrainJob) -> Iterator[tuple[TrainJob, Path]]:
    """A job without rows, and a file in a temporary folder that holds them."""
    with TemporaryDirectory(prefix="mld-") as folder:
        path = Path(folder) / "rows.safetensors"
        rows = flatten({"rows": job.rows, "validation": job.validation})
        save_tensors(path, {name: x.contiguous() for name, x in rows.items()}, {})
        yield job.moved({}, {}), path


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
    train(_with_rows(job, rows), context, should_stop=_state["stop"].is_set, progress=_reporting)


def _train_share(job: TrainJob, rows: Path, context: RunContext, rank: int) -> None:
    """In a worker: train a job together with the other ranks."""
    job, stop = _with_rows(job, rows), _state["stop"].is_set
    with SharedMemoryRanks(rows.parent, rank, context.compute.processes) as ranks:
        launch(job, context, CHECKPOINT_SECONDS, stop, _reporting, ranks)


def _with_rows(job: TrainJob, rows: Path) -> TrainJob:
    groups = unflatten(load_tensors(rows)[0])
    return job.moved(groups["rows"], groups.get("validation", {}))


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
