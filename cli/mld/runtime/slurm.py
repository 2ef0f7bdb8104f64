"""Commands of mld as jobs of a Slurm cluster, submitted through submitit."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

from mld.config.sections import ComputeSpec
from mld.runtime.mld_process import STOP_TIMEOUT_SECONDS, Job, open_log, start_mld
from mld.storage.files import load_json, write_json
from mld_core.errors import ExitCode, RunDirError, SpecError

if TYPE_CHECKING:
    from submitit import Job as SubmittedJob
    from submitit.core.utils import DelayedSubmission

CLUSTER = "slurm"
"""The executor of submitit; with "local", jobs are processes of this machine."""
DEFAULT_MINUTES = 240
"""The time limit of a job, at which it is queued again."""
MAX_TIMEOUTS = 1000
"""How often a job may reach its time limit."""
PREEMPTION_SECONDS = 600.0
"""How long an interrupted job waits for Slurm to end it or to queue it again."""


@dataclass
class Work:
    """A command of mld, as a job calls it; one that is queued again resumes its run.

    Args:
        words: of the command, after `mld`.
        log: to which its output is appended.
        environment: variables that it is given.
    """

    words: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    _process: Popen[bytes] | None = field(default=None, init=False)

    def __call__(self) -> int:
        """Run the command, and return its exit code."""
        if sys.platform == "win32":
            raise NotImplementedError("no machine of a Slurm cluster has Windows")
        # Some clusters signal every process of a job: this one is for the job alone.
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._process = process = start_mld(self.words, self.log, self.environment)
        signal.signal(signal.SIGUSR2, before)
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while process.poll() is None:  # `wait` would hold a lock that `checkpoint` needs
                time.sleep(0.2)
            if process.returncode == ExitCode.INTERRUPTED:
                # Slurm stops this job: a result would say that it is done.
                time.sleep(PREEMPTION_SECONDS)
            return process.returncode
        finally:
            signal.signal(signal.SIGTERM, before)

    def checkpoint(self) -> DelayedSubmission:
        """Stop the command, which saves its state; returns what is queued again."""
        from submitit.core.utils import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT_SECONDS)
        return DelayedSubmission(replace(self))


@dataclass(frozen=True)
class SlurmJob(Job):
    """A job that has been submitted."""

    submitted: SubmittedJob[int]
    log: Path

    @property
    def number(self) -> str:
        """The job's number."""
        return str(self.submitted.job_id)

    @property
    def state(self) -> str:
        """What Slurm says of the job, such as PENDING."""
        return str(self.submitted.state)

    def poll(self) -> int | None:
        """The exit code of the command; None while the job is queued or runs.

        If the job has ended without one, its log says so.
        """
        from submitit.core.utils import UncompletedJobError

        if not self.submitted.done():
            return None
        try:
            return max(self.submitted.results())
        except UncompletedJobError:
            with open_log(self.log) as log:
                log.write(f"error: Slurm has lost the run: job {self.number} is {self.state}\n")
            return ExitCode.INTERRUPTED

    def stop(self) -> None:
        """Cancel the job; a command that runs saves its state."""
        self.submitted.cancel(check=False)

    def wait(self) -> None:
        """Wait until the job has ended, at most STOP_TIMEOUT_SECONDS."""
        end = time.monotonic() + STOP_TIMEOUT_SECONDS
        while not self.submitted.done(force_check=True) and time.monotonic() < end:
            time.sleep(1)


class Slurm:
    """Submits commands of mld to the Slurm cluster of this machine.

    Args:
        folder: for what is submitted; all machines of the cluster must share it.
        options: of sbatch, as texts NAME=VALUE.

    Raises:
        SpecError: if submitit or Slurm is missing, or an option has no value.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        try:
            from submitit import AutoExecutor
        except ModuleNotFoundError as error:
            raise SpecError("Slurm needs submitit: pip install 'mld-toolkit[slurm]'") from error
        self._folder = folder.resolve()
        self._options = _parse_options(options)
        try:
            self._executor = AutoExecutor(
                self._folder, cluster=CLUSTER, slurm_max_num_timeout=MAX_TIMEOUTS
            )
        except RuntimeError as error:
            raise SpecError(
                "there is no Slurm here (no command srun): start mld on a machine of the cluster "
                "from which jobs are submitted"
            ) from error

    def submit(
        self,
        name: str,
        words: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        compute: ComputeSpec,
    ) -> SlurmJob:
        """Submit `mld WORDS` with what it computes with, in one process for each device of a node.

        Args:
            name: by which `find` finds the job.
            log: to which the command's output is appended.
            environment: variables that it is given.

        Raises:
            SpecError: if the number of processes is unknown, or Slurm refuses the job.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError
        from submitit.helpers import clean_env

        options = {"job_name": f"mld-{name}", **_resources(compute), **self._options}
        self._executor.update_parameters(**_parameters(options))
        try:
            with clean_env():  # this process may itself be that of a job
                work = Work(words, log.resolve(), environment)
                job = self._executor.submit(work)
        except (FailedJobError, FailedSubmissionError) as error:
            raise SpecError(f"Slurm refuses the job: {error}") from error
        write_json(self._record(name), {"job": job.job_id, "tasks": job.num_tasks})
        return SlurmJob(job, log)

    def find(self, name: str, log: Path) -> SlurmJob | None:
        """The job of this name, if it is queued or runs; an earlier process may have submitted it.

        Args:
            log: that of the job.
        """
        if not self._record(name).is_file():
            return None
        record = load_json(self._record(name))
        try:
            tasks = range(int(record["tasks"]))
            job = SlurmJob(self._job_class(self._folder, str(record["job"]), tasks), log)
        except (KeyError, TypeError, ValueError) as error:
            raise RunDirError(f"{self._record(name)} is corrupt: delete it") from error
        return None if job.submitted.done(force_check=True) else job

    @property
    def _job_class(self) -> Any:
        return self._executor._executor.job_class

    def _record(self, name: str) -> Path:
        """The file that says which job has a name."""
        return self._folder / f"{name}.json"


def _parse_options(texts: Sequence[str]) -> dict[str, str]:
    """Options of sbatch by name, with underscores. SpecError if one has no name or no value."""
    options = {}
    for text in texts:
        name, _, value = text.removeprefix("--").partition("=")
        if not (name and value):
            raise SpecError(f"--slurm must be NAME=VALUE, not {text!r}")
        options[name.replace("-", "_")] = value
    if not options.get("time", "1").isdecimal():
        raise SpecError(f"--slurm time must be a number of minutes, not {options['time']!r}")
    return options


def _resources(compute: ComputeSpec) -> dict[str, str]:
    """The options of sbatch that follow from a spec's section `compute`.

    SpecError if it does not say how many devices each of several nodes has.
    """
    resources = {"time": str(DEFAULT_MINUTES), "nodes": str(compute.nodes), "ntasks_per_node": "1"}
    if compute.nodes > 1:
        if compute.devices == "auto":
            raise SpecError(
                "compute.devices: write how many each node has: they are unknown before the job "
                "starts"
            )
        resources["ntasks_per_node"] = str(compute.devices)
    if compute.accelerator == "gpu":
        resources["gpus_per_node"] = str(1 if compute.devices == "auto" else compute.devices)
    if compute.threads != "auto":
        resources["cpus_per_task"] = str(compute.threads)
    return resources


def _parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """Options of sbatch as parameters of submitit, which knows most of them by name."""
    from submitit import SlurmExecutor

    known = SlurmExecutor._valid_parameters()
    values = {name: int(text) if text.isdecimal() else text for name, text in options.items()}
    others = {name: value for name, value in values.items() if name not in known}
    parameters = {f"slurm_{name}": value for name, value in values.items() if name in known}
    return {**parameters, "slurm_additional_parameters": others}
