"""Samples of a finished run: requests for them, and the samples as tensors, texts or files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mld.data.encoding import decode
from mld.data.items import write_item
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.digests import digest, tensor_digest
from mld.storage.files import append_line, read_lines
from mld.storage.outputs import check_folder, claimed, is_occupied
from mld_core import Modality, OutputError, SpecError

CONTENT = "samples"
"""What the mark of a folder of samples says that it holds."""
INDEX_FILE = "samples.jsonl"
"""The fingerprint of the request, then the files of each sample."""
FIRST_BATCH_SIZE = 32
"""Samples of the first batch, which is drawn even for one sample."""
MAX_BATCH_SIZE = 512
"""Samples drawn at once at most."""


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
        """Write each generated item to folder/<modality>/0000.*; returns the files by modality.

        OutputError unless the folder is empty.
        """
        folder = Path(folder)
        check_folder(folder)
        rows = [self.write_row(folder, row, row)["files"] for row in range(self.count)]
        return {name: [folder / files[name] for files in rows] for name in self.generated}

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.items.values())))

    @property
    def generated(self) -> list[str]:
        """The names of the modalities that were generated."""
        return [name for name in self.items if name not in self.given]

    def write_row(self, folder: Path, index: int, row: int) -> dict[str, Any]:
        """Write the generated items of one sample as folder/<modality>/<row>.*.

        Returns its `files` by modality, relative to the folder, and its `cells` by inline modality.
        """
        files, cells = {}, {}
        for name in self.generated:
            stem = folder / name / f"{row:04d}"
            cell, (file, *_) = write_item(self.modalities[name], self.items[name][index], stem)
            files[name] = file.relative_to(folder).as_posix()
            if cell is not None:
                cells[name] = cell
        return {"files": files, "cells": cells}


@dataclass(frozen=True)
class SampleRequest:
    """Any number of samples of some modalities, conditioned on one datum of each of some others.

    Sample k depends on the request and k alone, bit for bit: the last bits of a network's output
    depend on the size of its batch, so every batch is drawn whole, however many samples are wanted.

    Args:
        modalities: of the run, by name.
        items: by given modality, "*item".
        latents: by given modality, "latent".
        wanted: names of the modalities to generate.
        network: the digest of the generator's weights.
    """

    modalities: Mapping[str, Modality]
    generator: JointGenerator
    items: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    wanted: Sequence[str]
    seed: int
    network: str

    def draw(self, n: int) -> Samples:
        """The first `n` samples. SpecError if the generator cannot serve the request."""
        batches = [self.batch(rows) for rows in batches_of(n)]

        def join(parts: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
            return {name: torch.cat([part[name] for part in parts])[:n] for name in parts[0]}

        return Samples(
            modalities=self.modalities,
            items=join([batch.items for batch in batches]),
            latents=join([batch.latents for batch in batches]),
            given=tuple(self.items),
            nfe=batches[0].nfe,
            seconds=sum(batch.seconds for batch in batches),
        )

    def batch(self, rows: range) -> Samples:
        """The samples of one of the ranges of `batches_of`."""
        start = time.perf_counter()
        items = {name: x.expand(len(rows), *x.shape) for name, x in self.items.items()}
        latents = {name: z.expand(len(rows), *z.shape) for name, z in self.latents.items()}
        seeds = [derive(self.seed, "sample", row) for row in rows]
        try:
            samples = self.generator.sample(Conditioning(items, latents), self.wanted, seeds)
        except ValueError as error:
            raise SpecError(str(error)) from error
        decoders = self.generator.decoders
        decoded = {
            name: decode(decoders[name], samples.latents[name], name) for name in self.wanted
        }
        return Samples(
            modalities=self.modalities,
            items={**items, **decoded},
            latents=samples.latents,
            given=tuple(self.items),
            nfe=samples.nfe,
            seconds=time.perf_counter() - start,
        )

    @property
    def fingerprint(self) -> str:
        """The digest of all that decides the samples, but their number."""
        sampling = None
        if isinstance(self.generator, DiffusionGenerator):
            fields = {"sampler", "steps", "guidance"}
            sampling = self.generator.sampling.model_dump(mode="json", include=fields)
        return digest(
            {
                "network": self.network,
                "given": {name: tensor_digest(x) for name, x in self.items.items()},
                "wanted": [*self.wanted],
                "sampling": sampling,
                "seed": self.seed,
            }
        )

    def write(self, folder: Path, n: int) -> list[dict[str, Any]]:
        """Write the first `n` samples to a folder; those that earlier calls have written are kept.

        Returns for each the `files` by modality, the `cells` by inline modality, both as in
        `Samples.write_row`, and `nfe`. OutputError if the folder holds anything else.
        """
        index = folder / INDEX_FILE
        with claimed(folder, CONTENT), counting("sample", n, "samples") as show:
            written = self._load_index(folder, n)
            show(len(written))
            for rows in batches_of(n):
                missing = [row for row in rows if row < n and row not in written]
                if not missing:
                    continue
                samples = self.batch(rows)
                if not index.exists():
                    append_line(index, {"fingerprint": self.fingerprint})
                for row in missing:
                    entry = samples.write_row(folder, row - rows.start, row)
                    written[row] = {"row": row, **entry, "nfe": samples.nfe}
                    append_line(index, written[row])
                    show(len(written))
        return [written[row] for row in range(n)]

    def _load_index(self, folder: Path, n: int) -> dict[int, dict[str, Any]]:
        """The first `n` samples by row, as far as earlier calls have written them."""
        index = folder / INDEX_FILE
        if not index.exists() and not is_occupied(folder):
            return {}
        header, *entries = read_lines(index) or [{}]
        if header.get("fingerprint") != self.fingerprint:
            raise OutputError(
                f"{folder} holds samples of another run, request or setting: choose another folder "
                "with --out"
            )
        return {
            entry["row"]: entry
            for entry in entries
            if entry["row"] < n
            and all((folder / file).is_file() for file in entry["files"].values())
        }


def batches_of(n: int) -> Iterator[range]:
    """Consecutive ranges that cover range(n), at first small, then as long as all before.

    They are the same for all n, as far as they reach, and reach at most to FIRST_BATCH_SIZE or 2 n.
    """
    start = 0
    while start < n:
        size = min(max(start, FIRST_BATCH_SIZE), MAX_BATCH_SIZE)
        yield range(start, start + size)
        start += size
