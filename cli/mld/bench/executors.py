"""Where the runs of cells execute: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from mld_core import ExitCode, SpecError

STARTS = "from mld.bench.leash import leash; leash({}); from mld.app import main; main()"
PATIENCE = 60.0
"""Seconds that a run is given to save and end."""


class Job(ABC):
    """One run under way."""

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code; None while it runs."""

    @abstractmethod
    def stop(self) -> None:
        """Let it end; where it can, it saves first."""

    @abstractmethod
    def wait(self) -> None:
        """Return once it has ended, if need be by force."""


class Executor(ABC):
    """Starts runs; `slots` of them at most at once."""

    slots: int

    @abstractmethod
    def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
        """`mld run` of a spec into a folder; what it prints is added to the log."""


class LocalExecutor(Executor):
    """Processes of this machine, which die with the suite.

    Args:
        gpus: whether each is to have a GPU of its own, where there are any.
    """

    def __init__(self, slots: int, gpus: bool) -> None:
        self.slots = slots
        self._free = _gpus() if gpus else []
        if self._free:
            self.slots = min(slots, len(self._free))

    def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
        """A process of its own."""
        gpu = self._free.pop(0) if self._free else None
        environment = {"OMP_NUM_THREADS": str(threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        return _Process(_run_words(spec, out), log, environment, self._free, gpu)


class _Process(Job):
    def __init__(
        self,
        words: list[str],
        log: Path,
        environment: Mapping[str, str],
        free: list[str],
        gpu: str | None,
    ) -> None:
        self._process = _popen(words, log, environment)
        self._free, self._gpu = free, gpu

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._gpu is not None:
            self._free.append(self._gpu)
            self._gpu = None
        return code

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RayExecutor(Executor):
    """Tasks of a Ray cluster: the one at RAY_ADDRESS, or a local one. All see the same disk.

    Args:
        gpus: as for LocalExecutor.
    """

    def __init__(self, slots: int, threads: int, gpus: bool) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise SpecError("--executor ray needs Ray: pip install 'mld-toolkit[ray]'") from error
        self._ray = ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        self.slots = slots
        own = 1 if gpus and ray.cluster_resources().get("GPU") else 0
        self._remote = ray.remote(num_cpus=threads, num_gpus=own, max_retries=0)(_run_here)

    def start(self, spec: Path, out: Path, log: Path, threads: int) -> Job:
        """A task that runs the same command on whichever machine is free."""
        environment = {"OMP_NUM_THREADS": str(threads)}
        told = (_run_words(spec.resolve(), out.resolve()), log.resolve(), environment)
        return _Task(self._ray, self._remote.remote(*told), log)


class _Task(Job):
    def __init__(self, ray: Any, reference: Any, log: Path) -> None:
        self._ray = ray
        self._reference = reference
        self._log = log

    def poll(self) -> int | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(ready[0]))
        except self._ray.exceptions.RayError as error:
            # The worker died, or its machine: the run that it had begun died with it.
            with _opened(self._log) as log:
                log.write(f"error: Ray has lost the run: {error}\n")
            return ExitCode.INTERRUPTED

    def stop(self) -> None:
        """Kill its worker, and so the run: it goes on from what it saved last."""
        self._ray.cancel(self._reference, force=True)

    def wait(self) -> None:
        self._ray.wait([self._reference], timeout=PATIENCE)


def _run_words(spec: Path, out: Path) -> list[str]:
    return ["run", str(spec), "--out", str(out)]


def _run_here(words: list[str], log: Path, environment: Mapping[str, str]) -> int:
    return _popen(words, log, environment).wait()


def _popen(words: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A command of mld, by the Python that runs now; it dies with this process."""
    with _opened(log) as out:
        return subprocess.Popen(
            [sys.executable, "-c", STARTS.format(os.getpid()), *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            # A terminal's Ctrl-C reaches the suite alone, which then ends its runs in order.
            start_new_session=True,
        )


def _opened(log: Path) -> TextIO:
    """A log, to be added to."""
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("a", encoding="utf-8")


def _gpus() -> list[str]:
    """The GPUs that may be used, by the names that CUDA_VISIBLE_DEVICES takes."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        # As CUDA reads it: what is no GPU ends the list.
        return list(takewhile(lambda name: name not in ("", "-1"), told.split(",")))
    listed = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(listed.iterdir())] if listed.is_dir() else []
