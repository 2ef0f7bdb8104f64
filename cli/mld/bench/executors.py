"""Executors start the runs of a suite: as processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from mld.runtime.processor import available_cores
from mld.storage.files import writing
from mld_core import ExitCode, SpecError

BOOTSTRAP = (
    "from mld.bench.executors import die_with_parent; die_with_parent({}); "
    "from mld.app import main; main()"
)
"""Python code of a run's process, to be formatted with the process id of its parent."""
STOP_TIMEOUT_SECONDS = 60.0
"""How long a stopped run may take to save its state and exit."""
_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal a process receives when its parent dies."""


class Job(ABC):
    """A run that has been started."""

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code; None while the run is in progress."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the run to exit; where possible it saves its state first."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the run has exited; kill it after STOP_TIMEOUT_SECONDS."""


class Executor(ABC):
    """Starts runs, at most `slots` at the same time."""

    slots: int

    @abstractmethod
    def start(self, spec: Path, out: Path, log: Path) -> Job:
        """Start `mld run SPEC --out OUT`; its output is appended to the log."""


class LocalExecutor(Executor):
    """Starts runs as processes of this machine, which are killed when the suite's process dies.

    Args:
        slots: parallel runs; limited to one for each GPU if there are any.
        environment: variables set for each run.
        gpus: names of GPUs, each given to one run at a time through CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, slots: int, environment: Mapping[str, str], gpus: Sequence[str]) -> None:
        self.slots = min(slots, len(gpus)) if gpus else slots
        self._environment = environment
        self._gpus = gpus
        self._job_on_gpu: dict[str, Job] = {}

    def start(self, spec: Path, out: Path, log: Path) -> Job:
        """Start a run in a process of its own."""
        jobs = self._job_on_gpu
        free = [gpu for gpu in self._gpus if gpu not in jobs or jobs[gpu].poll() is not None]
        if not free:
            return _LocalJob(_popen(spec, out, log, self._environment))
        environment = {**self._environment, "CUDA_VISIBLE_DEVICES": free[0]}
        jobs[free[0]] = _LocalJob(_popen(spec, out, log, environment))
        return jobs[free[0]]


@dataclass
class _LocalJob(Job):
    _process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class RayExecutor(Executor):
    """Starts runs as tasks of the Ray cluster at RAY_ADDRESS, or else of a local one.

    All machines of the cluster must share the file system of the suite's folder. A local one has
    as many cores as this process may use.

    Args:
        slots: parallel runs; by default as many as the cluster has cores for. Ray starts no more
            than that at the same time, and queues the others.
        environment: variables set for each run.
        threads: processors that each run reserves.
        use_gpu: whether each run reserves a GPU, if the cluster has any.
    """

    def __init__(
        self, slots: int | None, environment: Mapping[str, str], threads: int, use_gpu: bool
    ) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise SpecError("--executor ray needs Ray: pip install 'mld-toolkit[ray]'") from error
        self._ray = ray
        if not ray.is_initialized():
            quiet = {"log_to_driver": False, "include_dashboard": False}
            try:
                ray.init(num_cpus=available_cores(), **quiet)
            except ValueError:  # there is a cluster, which knows its number of cores
                ray.init(**quiet)
        self.slots = slots or max(1, _parallel_tasks(ray, threads))
        self._environment = environment
        num_gpus = 1 if use_gpu and ray.cluster_resources().get("GPU") else 0
        options = {"num_cpus": threads, "num_gpus": num_gpus, "max_retries": 0}
        self._remote_run = ray.remote(**options)(_run_to_completion)

    def start(self, spec: Path, out: Path, log: Path) -> Job:
        """Start a run as a task on any machine with free resources."""
        paths = [path.resolve() for path in (spec, out, log)]
        return _RayJob(self._ray, self._remote_run.remote(*paths, self._environment), log)


@dataclass
class _RayJob(Job):
    _ray: Any
    _reference: Any
    _log: Path

    def poll(self) -> int | None:
        ready, _ = self._ray.wait([self._reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self._ray.get(ready[0]))
        except self._ray.exceptions.RayError as error:
            # The worker or its machine died, and with it the run (see die_with_parent).
            with _open_log(self._log) as log:
                log.write(f"error: Ray has lost the run: {error}\n")
            return ExitCode.INTERRUPTED

    def stop(self) -> None:
        """Kill the worker and with it the run, which later resumes from its last checkpoint."""
        self._ray.cancel(self._reference, force=True)

    def wait(self) -> None:
        self._ray.wait([self._reference], timeout=STOP_TIMEOUT_SECONDS)


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies in whatever way (Linux only).

    A run that outlived its suite would hold the lock of its run directory. On other systems it
    does, and the next suite waits for it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call to prctl.
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def visible_gpus(visible_devices: str | None) -> list[str]:
    """Names of the GPUs that may be used, given the value of CUDA_VISIBLE_DEVICES if it is set."""
    if visible_devices is not None:
        # CUDA ignores all names from the first invalid one on.
        return list(takewhile(lambda name: name not in ("", "-1"), visible_devices.split(",")))
    driver = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(driver.iterdir())] if driver.is_dir() else []


def _parallel_tasks(ray: Any, threads: int) -> int:
    """How many tasks of so many cores the machines of a Ray cluster can run at the same time."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(resources.get("CPU", 0)) // threads for resources in machines)


def _run_to_completion(spec: Path, out: Path, log: Path, env: Mapping[str, str]) -> int:
    return _popen(spec, out, log, env).wait()


def _popen(spec: Path, out: Path, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `mld run SPEC --out OUT` with this Python interpreter; it dies with this process."""
    bootstrap = BOOTSTRAP.format(os.getpid())
    with _open_log(log) as output:
        return subprocess.Popen(
            [sys.executable, "-c", bootstrap, "run", str(spec), "--out", str(out)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            # Ctrl-C in a terminal then reaches only the suite, which stops its runs itself.
            start_new_session=True,
        )


def _open_log(log: Path) -> TextIO:
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", encoding="utf-8")
