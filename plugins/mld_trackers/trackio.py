"""The tracker `trackio`: Trackio's local database, or a Space of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from mld_core import (
    SampleFile,
    Scalars,
    TrackedRun,
    Tracker,
    TrackerConfig,
    hookimpl,
    require_library,
)
from mld_trackers.media import media_of

require_library("trackio")


class TrackioConfig(TrackerConfig):
    """Settings of the tracker `trackio`."""

    project: str = Field("mld", min_length=1, description="the project that gets the run")
    space: str | None = Field(
        None, description="a Space that is sent everything, owner/name; by default nothing is sent"
    )


class Trackio(Tracker):
    """Trackio: curves over the steps of each training, pictures and sounds."""

    kind = "trackio"
    Config = TrackioConfig
    config: TrackioConfig

    def __init__(self, config: TrackioConfig, run: TrackedRun) -> None:
        super().__init__(config, run)
        import trackio

        self._run: Any = trackio.init(
            project=config.project,
            name=f"{run.name}-{run.key}",
            space_id=config.space,
            config=dict(run.spec),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, scalars: Sequence[Scalars]) -> None:
        """Add numbers at the step of their own training."""
        for each in scalars:
            self._run.log(dict(each.values), step=each.step)

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        """Add pictures and WAV sounds."""
        import trackio

        if media := media_of(samples, trackio):
            self._run.log(media, step=0)

    def flush(self) -> None:
        """Nothing: a thread of its own writes what it was given every second."""

    def close(self) -> None:
        """Wait until all is written, or sent."""
        self._run.finish()


@hookimpl
def register_trackers() -> list[type[Tracker]]:
    """Trackio."""
    return [Trackio]
