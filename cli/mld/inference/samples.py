"""Samples that a finished run was asked for, as tensors, texts or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mld.data.items import write_item
from mld_core import Modality


@dataclass(frozen=True)
class Samples:
    """What `Run.sample` made.

    Args:
        modalities: of the run.
        items: by modality given or wanted, "sample *item" in data space; given ones as they were.
        latents: the same as latents.
        given: the names that were given.
        nfe: network evaluations per sample.
        seconds: in all.
    """

    modalities: Mapping[str, Modality]
    items: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    given: tuple[str, ...]
    nfe: float
    seconds: float

    def cells(self, name: str) -> list[str]:
        """The wanted texts of an inline modality, one per sample."""
        return [self.modalities[name].cell(x) for x in self.items[name]]

    def write(self, folder: Path | str) -> dict[str, list[Path]]:
        """Write what was generated, folder/<modality>/0000.*; the files by modality."""
        return {
            name: [
                write_item(self.modalities[name], x, Path(folder) / name / f"{row:04d}")[1][0]
                for row, x in enumerate(items)
            ]
            for name, items in self.items.items()
            if name not in self.given
        }
