"""Samples of a finished run, and requests for any number of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from pydantic import JsonValue
from torch import Tensor

from mld.config.version import __version__
from mld.data.encoding import decode
from mld.data.items import item_cell, write_item
from mld.data.packed_items import Items
from mld.data.recorded import rows_by_modalities
from mld.data.stored_rows import digest_rows
from mld.inference.growing_ranges import growing_ranges
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld.runtime.seeds import derive
from mld.storage.digests import digest, tensor_digest
from mld.storage.files import with_checksum, write_json
from mld.storage.outputs import check_folder
from mld_core import Modality, NumericalError, SpecError

GIVEN_FILE = "given.json"
"""What the samples of a folder are: run, given data, settings, seed and version."""
MAX_ROWS_SHOWN = 8
"""Samples that a notebook shows."""
FIRST_BATCH_SIZE = 32
"""Samples of the first batch, which is drawn even for one sample."""
MAX_BATCH_SIZE = 512
"""Samples drawn at once at most."""


@dataclass(frozen=True, repr=False)
class Samples:
    """Samples of some modalities, with what they were conditioned on.

    Args:
        modalities: of the run, by name.
        items: by modality, given or generated, "sample *item" in data space.
        latents: by modality, "sample latent".
        given: names of the modalities that were given.
        nfe: network evaluations per sample.
        seconds: time to draw and decode all samples.
        request: what they are, as given.json says it.
    """

    modalities: Mapping[str, Modality]
    items: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    given: tuple[str, ...]
    nfe: float
    seconds: float
    request: Mapping[str, JsonValue] = field(default_factory=dict)

    def __repr__(self) -> str:
        given = f" given {', '.join(self.given)}" if self.given else ""
        return f"<{self._count_in_words} of {', '.join(self.generated)}{given}>"

    def _repr_html_(self) -> str:
        """The first samples as a table of their texts, pictures and sounds, for notebooks."""
        # Not at the top: it loads the template engine, which loading a run does not need.
        from mld.reporting.gallery import GalleryCell, GalleryRow, gallery_fragment, item_media

        def cell(name: str, k: int) -> GalleryCell:
            media = item_media(self.modalities[name], self.items[name][k])
            return GalleryCell(media, given=name in self.given)

        shown = range(min(self.count, MAX_ROWS_SHOWN))
        rows = [GalleryRow(str(k), [], {name: cell(name, k) for name in self.items}) for k in shown]
        hidden = self.count - len(rows)
        caption = f"{self._count_in_words}{f', {hidden} not shown' if hidden else ''}"
        return gallery_fragment(list(self.items), rows, caption)

    @property
    def _count_in_words(self) -> str:
        return f"{self.count} sample{'s' * (self.count != 1)}"

    def cells(self, name: str) -> list[str]:
        """The samples of an inline modality as texts."""
        modality = self.modalities[name]
        return [item_cell(modality, x, f"sample {k}") for k, x in enumerate(self.items[name])]

    def write(self, folder: Path | str) -> dict[str, list[Path]]:
        """Write each generated item to `folder/<modality>/0000.*`; returns the files by modality.

        OutputError unless the folder is empty.
        """
        folder = Path(folder)
        check_folder(folder)
        rows = [self.write_sample(folder, k, f"{k:04d}")["files"] for k in range(self.count)]
        write_json(folder / GIVEN_FILE, with_checksum(self.request))
        return {name: [folder / files[name] for files in rows] for name in self.generated}

    @property
    def count(self) -> int:
        """The number of samples."""
        return len(next(iter(self.items.values())))

    @property
    def generated(self) -> list[str]:
        """The names of the modalities that were generated."""
        return [name for name in self.items if name not in self.given]

    def write_sample(
        self, folder: Path, index: int, stem: str, inline_files: bool = True
    ) -> dict[str, Any]:
        """Write the generated items of one sample as `folder/<modality>/<stem>.*`.

        Returns its `files` by modality, relative to the folder, and its `cells` by inline modality,
        which have no files unless `inline_files`.
        """
        files, cells = {}, {}
        for name in self.generated:
            modality, x, path = self.modalities[name], self.items[name][index], folder / name / stem
            if modality.inline:
                cells[name] = item_cell(modality, x, str(path))
            if inline_files or not modality.inline:
                file = write_item(modality, x, path)[1][0]
                files[name] = file.relative_to(folder).as_posix()
        return {"files": files, "cells": cells}


@dataclass(frozen=True)
class GivenRows:
    """What samples are conditioned on: the data of one row, or of each of several.

    Args:
        items: by modality, "row *item"; zeros where not given.
        latents: by modality, "row latent"; likewise.
        present: which of the run's modalities, in its order, are given.
        ids: of the rows; None for a row of its own, which needs none.
    """

    items: Mapping[str, Shaped[Tensor, " row *item"] | Items]
    latents: Mapping[str, Float[Tensor, "row _"]]
    present: Bool[Tensor, "row modality"]
    ids: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SampleBlock:
    """Samples that are always drawn together: of rows in which the same modalities are given.

    Args:
        given: names of these modalities.
        rows: indices of the rows.
        samples: numbers of the samples of each of these rows.
    """

    given: tuple[str, ...]
    rows: Sequence[int]
    samples: range

    @property
    def keys(self) -> list[tuple[int, int]]:
        """Row and number of each sample, in the order in which they are drawn."""
        return [(row, sample) for row in self.rows for sample in self.samples]


@dataclass(frozen=True)
class SampleRequest:
    """Any number of samples of some modalities for each of some rows.

    Sample k of a row depends on the request, the row and k alone, bit for bit: the last bits of a
    network's output depend on the size of its batch, so every block is drawn whole, however many
    samples are wanted.

    Args:
        modalities: of the run, by name.
        rows: what is given.
        wanted: names of the modalities to generate.
        network: the digest of the generator's weights.
        run: the run's directory.
        given: the given data in words: values or paths by modality, or the manifest.
        inputs: files that the request was read from.
        columns: the name of each modality in tables, where it has another.
    """

    modalities: Mapping[str, Modality]
    generator: JointGenerator
    rows: GivenRows
    wanted: Sequence[str]
    seed: int
    network: str
    run: Path
    given: Mapping[str, JsonValue]
    inputs: Sequence[Path] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.rows.present)

    def draw(self, n: int) -> Samples:
        """The first `n` samples of a request of one row.

        SpecError if the generator cannot serve the request.
        """
        batches = [self.batch(block) for block in self.blocks(n)]

        def join(parts: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
            return {name: torch.cat([part[name] for part in parts])[:n] for name in parts[0]}

        return Samples(
            modalities=self.modalities,
            items=join([batch.items for batch in batches]),
            latents=join([batch.latents for batch in batches]),
            given=batches[0].given,
            nfe=batches[0].nfe,
            seconds=sum(batch.seconds for batch in batches),
            request=self.record(),
        )

    def blocks(self, n: int) -> Iterator[SampleBlock]:
        """The blocks of the first `n` samples of every row."""
        for given, indices in rows_by_modalities(self.rows.present, list(self.modalities)):
            for rows in indices.split(MAX_BATCH_SIZE):
                for samples in batches_of(n, len(rows)):
                    yield SampleBlock(tuple(given), rows.tolist(), samples)

    def batch(self, block: SampleBlock) -> Samples:
        """The samples of one of the blocks."""
        start = time.perf_counter()
        rows, repeats = torch.tensor(block.rows), len(block.samples)

        def repeated(
            data: Mapping[str, Tensor | Items] | Mapping[str, Tensor],
        ) -> dict[str, Tensor]:
            return {name: data[name][rows].repeat_interleave(repeats, 0) for name in block.given}

        items, latents = repeated(self.rows.items), repeated(self.rows.latents)
        seeds = [derive(self.seed, "sample", *self._seed_parts(*key)) for key in block.keys]
        with self._naming(block):
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
            given=block.given,
            nfe=samples.nfe,
            seconds=time.perf_counter() - start,
        )

    def record(self) -> dict[str, JsonValue]:
        """What the samples are, as given.json says it."""
        return {
            "run": str(self.run),
            "given": dict(self.given),
            "want": [*self.wanted],
            "sampling": self._sampling,
            "seed": self.seed,
            "mld": __version__,
            "fingerprint": self.fingerprint,
        }

    @property
    def fingerprint(self) -> str:
        """The digest of all that decides the samples, but their number."""
        ids = self.rows.ids
        return digest(
            {
                "network": self.network,
                "given": {name: digest_rows(x) for name, x in self.rows.items.items()},
                "present": tensor_digest(self.rows.present),
                "ids": None if ids is None else [*ids],
                "wanted": [*self.wanted],
                "sampling": self._sampling,
                "seed": self.seed,
            }
        )

    @property
    def _sampling(self) -> JsonValue:
        """The settings of mld's own sampling; None for a plugin's method."""
        if not isinstance(self.generator, DiffusionGenerator):
            return None
        fields = {"sampler", "steps", "guidance"}
        sampling: JsonValue = self.generator.sampling.model_dump(mode="json", include=fields)
        return sampling

    def _seed_parts(self, row: int, sample: int) -> tuple[str | int, ...]:
        return (sample,) if self.rows.ids is None else (self.rows.ids[row], sample)

    @contextmanager
    def _naming(self, block: SampleBlock) -> Iterator[None]:
        """Name the rows of a block in the message of a NumericalError."""
        try:
            yield
        except NumericalError as error:
            if self.rows.ids is None:
                raise
            first, last = (self.rows.ids[row] for row in (block.rows[0], block.rows[-1]))
            raise NumericalError(f"rows {first!r} to {last!r}: {error}") from error


def batches_of(n: int, rows: int = 1) -> Iterator[range]:
    """Consecutive ranges that cover range(n), at first small, then as long as all before.

    They are the same for all n, as far as they reach. With one row they reach at most to
    FIRST_BATCH_SIZE or 2 n, and are proportionally shorter if each is drawn for several rows.
    """
    return growing_ranges(n, max(FIRST_BATCH_SIZE // rows, 1), max(MAX_BATCH_SIZE // rows, 1))
