"""What one browser has before it: pinned samples, and the samples that were drawn last."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

from torch import Tensor

from mld.inference.samples import Samples
from mld.inference.trained_run import Datum, TrainedRun
from mld.reporting.gallery import item_media
from mld.reporting.html import Media, media_of
from mld_core import SpecError

MAX_SAMPLES = 16
"""Samples that the page shows at most."""
MAX_STEPS = 200
"""Solver steps that the page allows."""


@dataclass(frozen=True)
class Settings:
    """How samples are drawn; None is as the run's spec says."""

    n: int = 4
    seed: int = 0
    guidance: float | None = None
    steps: int | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """Samples of one browser, and what of them is pinned.

    Args:
        pinned: an item of each modality that has one.
        samples: that were drawn last.
        media: of each of these samples, by generated modality; and what was given, once.
        archive: the zip file of these samples, alone in its folder.
    """

    pinned: Mapping[str, Tensor] = field(default_factory=dict)
    samples: Samples | None = None
    media: Mapping[str, list[list[Media]]] = field(default_factory=dict)
    archive: Path | None = None

    def pin(self, name: str, sample: int) -> Session:
        """The session with a sample of a modality pinned. SpecError if there is none."""
        if self.samples is None or name not in self.samples.generated:
            raise SpecError(f"there is no sample of {name} to pin: generate it first")
        if not 0 <= sample < self.samples.count:
            raise SpecError(f"there is no sample {sample + 1} of {name}")
        return replace(self, pinned={**self.pinned, name: self.samples.items[name][sample]})

    def generate(
        self, run: TrainedRun, given: Mapping[str, Datum], settings: Settings, folder: Path
    ) -> Session:
        """The session with new samples of all modalities that are not given.

        Their archive is in a new folder in `folder`; the one before is deleted. SpecError if the
        request does not fit the run or the page's limits, DataError if a given datum cannot be
        read.
        """
        _check(settings)
        samples = run.sample(
            given,
            n=settings.n,
            seed=settings.seed,
            steps=settings.steps,
            guidance=settings.guidance,
        )
        own_folder = Path(mkdtemp(dir=folder))
        written = own_folder / "samples"
        files = samples.write(written)
        media = {name: _media_of_samples(samples, name, paths) for name, paths in files.items()}
        archive = shutil.make_archive(str(own_folder / f"{run.spec.name}-samples"), "zip", written)
        shutil.rmtree(written)
        for name in samples.given:
            media[name] = [item_media(run.modalities[name], samples.items[name][0])]
        self.close()
        return replace(self, samples=samples, media=media, archive=Path(archive))

    def close(self) -> None:
        """Delete the archive, if there is one."""
        if self.archive is not None:
            shutil.rmtree(self.archive.parent, ignore_errors=True)


def _check(settings: Settings) -> None:
    if not 1 <= settings.n <= MAX_SAMPLES:
        raise SpecError(f"samples must be 1 to {MAX_SAMPLES}, not {settings.n}")
    if settings.steps is not None and settings.steps > MAX_STEPS:
        raise SpecError(f"steps must be at most {MAX_STEPS} on this page, not {settings.steps}")
    if settings.seed < 0:
        raise SpecError(f"seed must not be negative, as {settings.seed} is")


def _media_of_samples(samples: Samples, name: str, files: Sequence[Path]) -> list[list[Media]]:
    """What the written samples of a modality are shown as: file, previews beside it, and cell."""
    cells = samples.cells(name) if samples.modalities[name].inline else [None] * len(files)
    media = []
    for file, cell in zip(files, cells, strict=True):
        previews = sorted(set(file.parent.glob(f"{file.stem}.*")) - {file})
        media.append(media_of([file, *previews], cell))
    return media
