"""Estimates of how long trials take, from those that are done. They decide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial
from mld.storage.stages import STAGE_NAMES


class Forecast:
    """Estimates the time of a trial as the mean over the most similar trials that are done.

    These are trials of the same method with as many modalities; if there are none, those of the
    same method; else all.
    """

    def __init__(self, suite_dir: SuiteDir, trials: Sequence[Trial]) -> None:
        self._seconds: dict[tuple[object, ...], list[float]] = {}
        for trial in trials:
            if suite_dir.state(trial) == "done":
                self.add(trial, sum(map(suite_dir.run_dir(trial).stage_seconds, STAGE_NAMES)))

    @property
    def measured(self) -> bool:
        """Whether any trial is done, so that estimates are not mere guesses."""
        return bool(self._seconds)

    def add(self, trial: Trial, seconds: float) -> None:
        """Take a finished trial into account."""
        for key in _similarity_keys(trial):
            self._seconds.setdefault(key, []).append(seconds)

    def seconds(self, trial: Trial) -> float:
        """The estimate for one trial; only if `measured`."""
        key = next(key for key in _similarity_keys(trial) if key in self._seconds)
        return math.fsum(self._seconds[key]) / len(self._seconds[key])

    def total_seconds(self, trials: Sequence[Trial]) -> float:
        """The estimate for several trials, one after the other; only if `measured`."""
        return math.fsum(map(self.seconds, trials))


def _similarity_keys(trial: Trial) -> list[tuple[object, ...]]:
    """What a trial has in common with others, the most similar first."""
    size, method = len(trial.coordinates.modalities), trial.coordinates.method
    return [(method, size), (method,), ()]
