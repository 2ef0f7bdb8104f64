"""The tracker `wandb`: Weights & Biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

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

require_library("wandb")


class WandbConfig(TrackerConfig):
    """Settings of the tracker `wandb`."""

    project: str = Field("mld", min_length=1, description="the project that gets the run")
    entity: str | None = Field(None, description="the user or team; by default your own")
    mode: Literal["offline", "online"] = Field(
        "offline",
        description="offline keeps all in the run's folder, for `wandb sync`; online sends it",
    )


class Wandb(Tracker):
    """Weights & Biases: curves over the steps of each training, pictures and sounds."""

    kind = "wandb"
    Config = WandbConfig
    config: WandbConfig

    def __init__(self, config: WandbConfig, run: TrackedRun) -> None:
        super().__init__(config, run)
        import wandb

        run.folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=config.project,
            entity=config.entity,
            name=run.name,
            id=run.key,
            resume="allow" if config.mode == "online" else None,
            mode=config.mode,
            dir=run.folder,
            config=dict(run.spec),
            settings=wandb.Settings(silent=True),
        )
        self._groups: set[str] = set()

    def log(self, scalars: Sequence[Scalars]) -> None:
        """Add numbers, whose axis is the step of their own training."""
        for each in scalars:
            step = f"{each.group}/step"
            if each.group not in self._groups:
                self._run.define_metric(step, hidden=True)
                self._run.define_metric(f"{each.group}/*", step_metric=step)
                self._groups.add(each.group)
            self._run.log({**each.values, step: each.step})

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        """Add pictures and WAV sounds."""
        import wandb

        if media := media_of(samples, wandb):
            self._run.log(media)

    def flush(self) -> None:
        """Nothing: a process of its own writes what it was given."""

    def close(self) -> None:
        """Wait until all is written, or sent."""
        self._run.finish()


@hookimpl
def register_trackers() -> list[type[Tracker]]:
    """Weights & Biases."""
    return [Wandb]
