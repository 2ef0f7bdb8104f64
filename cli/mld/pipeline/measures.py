"""Measurements of a run while its stages run: their time and their memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mld.pipeline.timed_training import TimedTrainings, device_peak, forget_device_peak
from mld.runtime.memory import private_memory
from mld.runtime.progress import Clock
from mld.storage.run_dir import RunDir


@dataclass(frozen=True)
class MeasuredSampling:
    """How long sampling takes.

    Args:
        seconds, evaluation_seconds: of a sample in a full batch: once, and each network evaluation.
        rehearsed_seconds: of all samples of the rehearsal.
    """

    seconds: float
    evaluation_seconds: float
    rehearsed_seconds: float


@dataclass(frozen=True)
class MeasuredStage:
    """A stage of a rehearsal.

    Args:
        seconds: without those of trainings.
        file_bytes: of its files, by suffix.
        memory: bytes of this process at its end.
        device_bytes: the most that a GPU held; 0 on a processor.
    """

    seconds: float
    file_bytes: Mapping[str, int]
    memory: int
    device_bytes: int


@dataclass(frozen=True)
class MeasuredRunDir(RunDir):
    """A run directory that measures its stages.

    Args:
        trainings: whose time does not count.
        stages: what is measured, by name; a stage that runs again is measured anew.
    """

    trainings: TimedTrainings
    clock: Clock
    stages: dict[str, MeasuredStage] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, earlier_seconds: float = 0.0) -> Iterator[Any]:
        """As of every run directory."""
        trained, start = self.trainings.seconds, self.clock()
        forget_device_peak()
        with super().stage(name, earlier_seconds) as seconds:
            yield seconds
        elapsed = self.clock() - start - (self.trainings.seconds - trained)
        self.stages[name] = MeasuredStage(elapsed, {}, private_memory(), device_peak())
