"""The samples of a finished run, as tensors, texts or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mld.data.items import write_item
from mld_core import Modality


@dataclass(frozen=True)
class Samples:
    """Samples of some modalities, with what they were conditioned on.

    Args:
        modalities: of the run, by name.
        items: by modality, given or generated, "sample *item" in data space.
        latents: by modality, "sample latent".
        given: names of the modalities that were given.
        nfe: network evaluations per sample.
        seconds: time to draw and decode all samples.
    """

    modalities: Mapping[str, Modality]
    items: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    given: tuple[str, ...]
    nfe: float
    seconds: float

    def cells(self, name: str) -> list[str]:
        """The samples of an inline modality as texts."""
        return [self.modalities[name].cell(x) for x in self.items[name]]

    def write(self, folder: Path | str) -> dict[str, list[Path]]:
        """Write each generated item to folder/<modality>/0000.*; returns the files by modality."""
        return {
            name: [
                write_item(self.modalities[name], x, Path(folder) / name / f"{row:04d}")[1][0]
                for row, x in enumerate(items)
            ]
            for name, items in self.items.items()
            if name not in self.given
        }
