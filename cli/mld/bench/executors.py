"""Executors start the runs of a suite: as processes of this machine, or on a cluster."""

from __future__ import annotations

import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from mld.config.sections import ComputeSpec
from mld.runtime.mld_process import STOP_TIMEOUT_SECONDS, Job, open_log, start_mld
from mld.runtime.processor import available_cores
from mld.runtime.slurm import Slurm
from mld_core import ExitCode, SpecError


class Executor(ABC):
    """Starts runs, at most `slots` at the same time."""

    slots: int
    poll_seconds: float = 0.2
    """Time between two checks of the runs in progress."""

    @abstractmethod
    def start(self, spec: Path, out: Path, log: Path) -> Job:
        """Start `mld run SPEC --out OUT`; its output is appended to the log."""

    def running(self, out: Path, log: Path) -> Job | None:
        """The run in this directory that an earlier process has started, if it can be followed."""
        return None


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
            return _LocalJob(start_mld(run_words(spec, out), log, self._environment))
        environment = {**self._environment, "CUDA_VISIBLE_DEVICES": free[0]}
        jobs[free[0]] = _LocalJob(start_mld(run_words(spec, out), log, environment))
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
            # The worker or its machine died, and with it the run (see start_mld).
            with open_log(self._log) as log:
                log.write(f"error: Ray has lost the run: {error}\n")
            return ExitCode.INTERRUPTED

    def stop(self) -> None:
        """Kill the worker and with it the run, which later resumes from its last checkpoint."""
        self._ray.cancel(self._reference, force=True)

    def wait(self) -> None:
        self._ray.wait([self._reference], timeout=STOP_TIMEOUT_SECONDS)


class SlurmExecutor(Executor):
    """Starts runs as jobs of the Slurm cluster of this machine, which outlive the suite's process.

    Args:
        slots: jobs that are queued or run at the same time.
        environment: variables set for each run.
        slurm: submits the jobs.
    """

    poll_seconds = 2.0

    def __init__(self, slots: int, environment: Mapping[str, str], slurm: Slurm) -> None:
        self.slots = slots
        self._environment = environment
        self._slurm = slurm

    def start(self, spec: Path, out: Path, log: Path) -> Job:
        """Submit a run, with the nodes, devices and threads that its spec computes with."""
        compute = ComputeSpec(**yaml.safe_load(spec.read_text(encoding="utf-8"))["compute"])
        words = run_words(spec.resolve(), out.resolve())
        return self._slurm.submit(out.name, words, log, self._environment, compute)

    def running(self, out: Path, log: Path) -> Job | None:
        """The job of this run that is still queued or runs."""
        return self._slurm.find(out.name, log)


def visible_gpus(visible_devices: str | None) -> list[str]:
    """Names of the GPUs that may be used, given the value of CUDA_VISIBLE_DEVICES if it is set."""
    if visible_devices is not None:
        # CUDA ignores all names from the first invalid one on.
        return list(takewhile(lambda name: name not in ("", "-1"), visible_devices.split(",")))
    driver = Path("/proc/driver/nvidia/gpus")
    if driver.is_dir():
        return [str(index) for index, _ in enumerate(driver.iterdir())]
    if sys.platform != "win32":
        return []
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _parallel_tasks(ray: Any, threads: int) -> int:
    """How many tasks of so many cores the machines of a Ray cluster can run at the same time."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(resources.get("CPU", 0)) // threads for resources in machines)


def _run_to_completion(spec: Path, out: Path, log: Path, env: Mapping[str, str]) -> int:
    return start_mld(run_words(spec, out), log, env).wait()


def run_words(spec: Path, out: Path) -> list[str]:
    """The words of `mld run SPEC --out OUT` after `mld`."""
    return ["run", str(spec), "--out", str(out)]
