"""Trainings on a processor in processes of their own: several side by side, or one that is shared.

Two small networks on one thread each train faster than one after the other on two threads, and so
do two halves of a batch.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Protocol

from torch import Tensor

from mld.data.stored_rows import StoredRows
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.fabric import import_fabric
from mld.runtime.worker_pool import WorkerPool, is_interrupted
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


def parallel_trainings(jobs: int, compute: Compute) -> tuple[int, Compute]:
    """How many of several trainings run at once, and what each of them computes with.

    On a processor as many as it has threads for, each in one process with an equal share of them.
    The share depends on the number of jobs alone and not on which of them are still to be done,
    because the number of threads affects the last bits of weights.
    """
    workers = min(jobs, compute.threads)
    if compute.accelerator != "cpu" or workers < 2:
        return 1, compute
    return workers, replace(compute.on_one_device(), threads=compute.threads // workers)


def shared_training(batch_size: int, compute: Compute, pool: Trainers | None) -> Compute:
    """What a training by `TrainingPool.train_together` computes with; as given if not worth it."""
    return shared_compute(batch_size, compute, pool.workers if pool else 1)


def shared_compute(batch_size: int, compute: Compute, workers: int) -> Compute:
    """As `shared_training`, with a pool of so many processes."""
    processes = min(workers, batch_size // MIN_SHARED_ROWS)
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


class Trainers(Protocol):
    """What trains jobs side by side, or one of them shared.

    Attributes:
        workers: how many trainings, or shares of one, there are at the same time.
    """

    workers: int

    def train(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As the function `train`; may be called from several threads."""
        ...

    def train_together(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, of a job whose batches are shared as the context says."""
        ...

    def interrupt(self) -> None:
        """Ask all trainings to stop."""
        ...


class TrainingPool(WorkerPool):
    """Processes that train jobs.

    After `interrupt`, all trainings save their checkpoints and raise KeyboardInterrupt.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._this_process = Lock()

    def load_libraries(self) -> None:
        """Have idle processes import what every training does, for seconds; does not wait."""
        for _ in range(self.workers):
            self.submit(_load_libraries)

    def train(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, in one of the processes; may be called from several threads.

        A job that cannot be sent to another process is trained in this one.
        """
        with _rows_file(job) as (without_rows, path):
            try:
                self.submit(_train, without_rows, path, context).result()
            except PicklingError:
                # One at a time, since trainings in one process share torch's random generator.
                with self._this_process:
                    return train(job, context, should_stop=self.is_interrupted)
        return finished_weights(job, context)

    def train_together(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As `train`, in as many of the processes as the context says, which share every batch."""
        return train_by(partial(self._launch_ranks, job, context), job, context)

    def _launch_ranks(self, job: TrainJob, context: RunContext) -> None:
        with _rows_file(job) as (without_rows, path):
            shares = [
                self.submit(_train_share, without_rows, path, context, rank)
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
    """A job whose stored rows are in files, without other rows, and a file that holds these.

    The files are in a temporary folder, unless rows are in files already.
    """
    with TemporaryDirectory(prefix="mld-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "rows.safetensors"
        rows = flatten({"rows": job.rows, "validation": job.validation})
        stored = {
            name: x.in_file(path.with_name(f"{index}.bin"))
            for index, (name, x) in enumerate(rows.items())
            if isinstance(x, StoredRows)
        }
        tensors = {name: x.contiguous() for name, x in rows.items() if isinstance(x, Tensor)}
        save_tensors(path, tensors, {})
        groups = unflatten(stored)
        yield job.moved(groups.get("rows", {}), groups.get("validation", {})), path


def _load_libraries() -> None:
    """In a worker: what every training imports, beyond this module's imports."""
    import_fabric()


def _train(job: TrainJob, rows: Path, context: RunContext) -> None:
    """In a worker: train a job whose rows are in a file."""
    train(_with_rows(job, rows), context, should_stop=is_interrupted)


def _train_share(job: TrainJob, rows: Path, context: RunContext, rank: int) -> None:
    """In a worker: train a job together with the other ranks."""
    job = _with_rows(job, rows)
    with SharedMemoryRanks(rows.parent, rank, context.compute.processes) as ranks:
        launch(job, context, CHECKPOINT_SECONDS, is_interrupted, ranks)


def _with_rows(job: TrainJob, rows: Path) -> TrainJob:
    groups = unflatten(load_tensors(rows)[0])
    return job.moved(
        {**job.rows, **groups.get("rows", {})},
        {**job.validation, **groups.get("validation", {})},
    )
