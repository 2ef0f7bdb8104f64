"""The contract of a tracker: where the curves, metrics and samples of runs are looked at.

mld reads the event log of a run and hands on what it says, in a thread of its own and in order. So
a tracker may be slow, and may raise anything: that is a warning, and the run goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue


class TrackerConfig(BaseModel):
    """Settings of a tracker in a spec, in addition to its kind; plugins subclass it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers know it.

    Args:
        name: of the experiment; with a number once stages of it were recomputed: "digits-2".
        key: letters and digits that no other run has, the same whenever this one is resumed.
        folder: in the run directory, for what the tracker keeps; it may not exist yet.
        spec: resolved, as JSON.
    """

    name: str
    key: str
    folder: Path
    spec: Mapping[str, JsonValue]


@dataclass(frozen=True)
class Scalars:
    """Numbers of one step.

    Args:
        group: what the step counts: a training, such as "autoencode/digit", or "run" for what a run
            has once, at step 0.
        step: optimiser steps.
        values: by name, of letters, digits, "_", "-", ".", "/" and spaces, which begins with the
            group: "autoencode/digit/loss".
        time: seconds since 1970.
    """

    group: str
    step: int
    values: Mapping[str, float]
    time: float


@dataclass(frozen=True)
class SampleFile:
    """A file of a sample.

    Args:
        name: of what it shows: "samples/word/digit/0000", a digit that was given a word.
        path: a picture (PNG, JPEG, SVG), a sound (WAV, FLAC, OGG), or anything else.
        text: the cell of an inline modality; None for others.
    """

    name: str
    path: Path
    text: str | None


class Tracker(ABC):
    """A connection to a tracker, for one run.

    The constructor opens the run, or the same one again when it is resumed.

    Args:
        config: an instance of this class's `Config`.
        run: what is shown.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[TrackerConfig]]

    def __init__(self, config: TrackerConfig, run: TrackedRun) -> None:
        self.config = config
        self.run = run

    def last_steps(self) -> Mapping[str, int] | None:
        """The last step of each number that the tracker has of this run, by name.

        By default None: it cannot tell, and what mld remembers to have handed on counts. That may
        be less than it has, if the process was killed in between, and is then handed on twice.
        """
        return None

    @abstractmethod
    def log(self, scalars: Sequence[Scalars]) -> None:
        """Add numbers; steps of one name increase."""

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        """Add files of samples, those that can be shown; by default none."""
        return

    @abstractmethod
    def flush(self) -> None:
        """Return once all that was added is where a killed process does not lose it."""

    @abstractmethod
    def close(self) -> None:
        """End the connection; the run may be opened again."""
