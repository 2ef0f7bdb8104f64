"""The tracker `tensorboard`: event files in a local folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mld_core import (
    SampleFile,
    Scalars,
    SpecPath,
    TrackedRun,
    Tracker,
    TrackerConfig,
    hookimpl,
    require_library,
)
from mld_trackers.media import PICTURES, SOUND

require_library("tensorboard")


class TensorBoardConfig(TrackerConfig):
    """Settings of the tracker `tensorboard`."""

    folder: SpecPath | None = Field(
        None, description="where the run gets a folder of its name; by default in its own folder"
    )


class TensorBoard(Tracker):
    """TensorBoard: curves, pictures, sounds and texts, shown by `tensorboard --logdir runs`."""

    kind = "tensorboard"
    Config = TensorBoardConfig
    config: TensorBoardConfig

    def __init__(self, config: TensorBoardConfig, run: TrackedRun) -> None:
        super().__init__(config, run)
        from torch.utils.tensorboard import SummaryWriter

        self.folder = run.folder if config.folder is None else config.folder / run.name
        self._last_steps = _last_steps(self.folder)
        self._writer: Any = SummaryWriter(str(self.folder))
        if not self._last_steps:
            text = json.dumps(run.spec, indent=1)
            self._writer.add_text("spec", f"```\n{text}\n```")

    def last_steps(self) -> Mapping[str, int]:
        """Read from the event files."""
        return self._last_steps

    def log(self, scalars: Sequence[Scalars]) -> None:
        """Add each number as a scalar with its own tag and time."""
        for each in scalars:
            for name, value in each.values.items():
                self._writer.add_scalar(name, value, each.step, walltime=each.time)

    def log_samples(self, samples: Sequence[SampleFile]) -> None:
        """Add PNG and JPEG pictures, WAV sounds and texts."""
        for sample in samples:
            if sample.path.suffix in PICTURES:
                self._writer.add_image(sample.name, _pixels(sample.path), dataformats="HWC")
            elif sample.path.suffix == SOUND:
                self._writer.add_audio(sample.name, *_sound(sample.path))
            elif sample.text is not None:
                self._writer.add_text(sample.name, sample.text)

    def flush(self) -> None:
        """Write the event file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file; a resumed run writes another one beside it."""
        self._writer.close()


def _last_steps(folder: Path) -> dict[str, int]:
    """The last step of each scalar in the event files of a folder."""
    if not folder.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    # 0 keeps all; of whatever else there is, one suffices.
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    tags = events.Tags()[SCALARS]
    return {tag: max(event.step for event in events.Scalars(tag)) for tag in tags}


def _pixels(path: Path) -> Any:
    """A picture as "height width channel", 8 bits."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _sound(path: Path) -> tuple[Any, None, int]:
    """A WAV file of 16 bits as "1 time" in [-1, 1], no step, and the sample rate."""
    import wave

    import numpy as np

    with wave.open(str(path)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        sound = frames.reshape(-1, file.getnchannels()).mean(1) / 32768
        return sound[None].astype("float32"), None, file.getframerate()


@hookimpl
def register_trackers() -> list[type[Tracker]]:
    """TensorBoard."""
    return [TensorBoard]
