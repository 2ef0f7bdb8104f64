"""Processes that compute side by side, with their progress shown by their parent."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory, mkdtemp
from threading import Thread
from typing import Any, ParamSpec, Self, TypeVar

import psutil

from mld.runtime.progress_relay import relay_progress, show_relayed_progress
from mld_core.errors import describe_exception

PARENT_SECONDS = 0.5
"""The time between two looks at whether a worker's parent is alive."""

WORKER_ENVIRONMENT = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}
"""Loky would take the data and libraries that a worker has loaded for a leak, and restart it."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class WorkerPool:
    """Processes for jobs; they start with `start` or with the first job.

    When the block ends, so do they, whatever they do. They do not run the user's script again, so
    that it needs no main guard.

    Attributes:
        workers: the number of processes.
        folder: for files that the processes exchange; deleted when they have ended.
    """

    def __init__(self, workers: int) -> None:
        from loky import ProcessPoolExecutor
        from loky.backend import get_context

        self.workers = workers
        context = get_context("loky")
        self._stop = context.Event()
        self._reports = context.SimpleQueue()
        self._executor = ProcessPoolExecutor(
            workers,
            context=context,
            initializer=_start,
            initargs=(self._stop, self._reports),
            env=WORKER_ENVIRONMENT,
        )
        self._printer = Thread(target=show_relayed_progress, args=(self._reports.get,), daemon=True)
        self._temporary = TemporaryDirectory(prefix="mld-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)

    def __enter__(self) -> Self:
        self._printer.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A worker that is killed while it writes to the queue leaves it locked.
        self._reports.put(None)
        self._printer.join()
        self._executor.shutdown(kill_workers=True)
        self._temporary.cleanup()

    def start(self) -> None:
        """Start the processes without waiting for them; they import torch for seconds."""
        for _ in range(self.workers):
            self._executor.submit(_import_torch)

    def submit(
        self,
        job: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Future[Result]:
        """Call a function in one of the processes.

        The result raises PicklingError if the job or an argument cannot be sent.
        """
        future: Future[Result] = self._executor.submit(job, *args, **kwargs)
        return future

    def share(self, value: object) -> Path:
        """A file in a folder of its own, from which `load_shared` loads a value in any process.

        PicklingError if it cannot be sent to other processes.
        """
        from loky.backend.reduction import dump

        path = Path(mkdtemp(dir=self.folder)) / "value.pickle"
        try:
            with path.open("wb") as file:
                dump(value, file)
        except Exception as error:  # objects of a plugin may raise anything
            path.unlink(missing_ok=True)
            raise PicklingError(describe_exception(error)) from error
        return path

    def interrupt(self) -> None:
        """Ask all jobs to stop: from now on `is_interrupted` is true in every process."""
        self._stop.set()

    def is_interrupted(self) -> bool:
        """Whether `interrupt` has been called."""
        return bool(self._stop.is_set())


_worker: dict[str, Any] = {}
"""In a worker: what its pool has given it."""


def load_shared(path: Path) -> Any:
    """In a worker: what `WorkerPool.share` has written. PicklingError if it cannot be loaded."""
    try:
        with path.open("rb") as file:
            return pickle.load(file)
    except Exception as error:
        raise PicklingError(describe_exception(error)) from error


def is_interrupted() -> bool:
    """In a worker: whether its pool has been interrupted."""
    return bool(_worker["stop"].is_set())


def _start(stop: Any, reports: Any) -> None:
    """Prepare a worker's process, which ends with its parent."""
    _worker["stop"] = stop
    relay_progress(reports.put)
    # Ctrl-C reaches all processes of a terminal; a training handles it, and an idle worker waits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = psutil.Process(os.getppid())
    Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _import_torch() -> None:
    """In a worker: what every job imports."""
    import torch  # noqa: F401


def _end_with_parent(parent: psutil.Process) -> None:
    """End this process when its parent has died; what it has saved is complete."""
    # On Windows a process keeps the number of a parent that has died.
    while os.getppid() == parent.pid and parent.is_running():
        time.sleep(PARENT_SECONDS)
    os._exit(1)
