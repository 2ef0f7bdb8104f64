"""Files that the processes of a training on several nodes share, and a check that they do."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mld.data.stored_rows import StoredRows
from mld.runtime.context import RunContext
from mld.training.checkpoint import read_checkpoint
from mld.training.job import TrainJob
from mld_core.errors import RunDirError

SHARED_SECONDS = 60.0
"""How long a file system may take to show a node what another one has written."""


@dataclass(frozen=True)
class SharedFiles:
    """What the leader sees in files before a training, as all other processes must.

    Args:
        lock: what the leader has written when it locked the run directory.
        step: of the training's checkpoint; 0 without one.
    """

    lock: str
    step: int

    @classmethod
    def of(cls, job: TrainJob, context: RunContext) -> SharedFiles:
        """What this process sees."""
        checkpoint = read_checkpoint(context.run_dir, job.name, job.fingerprint(context))
        return cls(context.run_dir.lock_record(), checkpoint.step if checkpoint else 0)

    def wait(self, job: TrainJob, context: RunContext) -> None:
        """Return when this process sees the same. RunDirError if it does not after a minute."""
        deadline = time.monotonic() + SHARED_SECONDS
        while fault := self._fault(job, context):
            if time.monotonic() > deadline:
                raise RunDirError(f"on {platform.node()}, {fault}")
            time.sleep(0.2)

    def _fault(self, job: TrainJob, context: RunContext) -> str:
        """What this process does not see as the leader does; "" if it sees all."""
        run_dir = context.run_dir
        seen = SharedFiles.of(job, context)
        if seen.lock != self.lock:
            return f"{run_dir.path} is another folder than in the first process: {_ADVICE}"
        if seen.step != self.step:
            path = run_dir.checkpoint(job.name)
            steps = f"of step {seen.step:,}, and of step {self.step:,} in the first process"
            return f"{path} is {steps}: {_ADVICE}"
        missing = (path for path in _row_files(job) if not path.is_file())
        return next((f"{path} is missing: {_ADVICE}" for path in missing), "")


_ADVICE = "put run directory and weight store (MLD_STORE) on a file system that all nodes share"


def _row_files(job: TrainJob) -> Iterator[Path]:
    """The files in which a job's rows are kept."""
    for x in (*job.rows.values(), *job.validation.values()):
        if isinstance(x, StoredRows) and x.file is not None:
            yield x.file
