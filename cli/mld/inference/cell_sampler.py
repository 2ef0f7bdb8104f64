"""Samples of cells of rows, given other cells of the same rows, and estimates from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from mld.data.encoding import decode
from mld.data.estimates import Estimate, best_estimate
from mld.data.stored_rows import select_rows
from mld.inference.growing_ranges import growing_ranges
from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld.runtime.seeds import derive
from mld_core import Modality, NumericalError

MAX_DRAWS_AT_ONCE = 32
"""Samples of each row that are drawn at once at most."""


@dataclass(frozen=True)
class Rows:
    """Rows of which some cells are known and others wanted.

    Args:
        ids: of the rows.
        conditioning: items, if the generator needs them, and raw latents of all modalities.
        observed, wanted: modalities in the order of the latents.
    """

    ids: Sequence[str]
    conditioning: Conditioning
    observed: Bool[Tensor, "row modality"]
    wanted: Bool[Tensor, "row modality"]

    def __getitem__(self, index: Int64[Tensor, " part"]) -> Rows:
        """Some of the rows."""
        given = self.conditioning
        items = {name: select_rows(x, index) for name, x in given.items.items()}
        latents = {name: z[index] for name, z in given.latents.items()}
        ids = [self.ids[row] for row in index.tolist()]
        return Rows(ids, Conditioning(items, latents), self.observed[index], self.wanted[index])


@dataclass(frozen=True)
class CellSamples:
    """Samples of one modality in the rows in which it is wanted.

    Args:
        rows: indices of these rows.
        items: in data space.
        latents: of the items, raw.
    """

    rows: Int64[Tensor, " cell"]
    items: Shaped[Tensor, " cell draw *item"]
    latents: Float[Tensor, "cell draw latent"]

    def __getitem__(self, chosen: Bool[Tensor, " cell"]) -> CellSamples:
        """The samples of some of the cells."""
        return CellSamples(self.rows[chosen], self.items[chosen], self.latents[chosen])


@dataclass(frozen=True)
class CellSampler:
    """Draws `n` samples of each cell.

    Args:
        purpose: enters the seeds, beside `seed` and the row's id.
    """

    modalities: Mapping[str, Modality]
    generator: JointGenerator
    n: int
    seed: int
    purpose: str

    def draw(self, rows: Rows) -> dict[str, CellSamples]:
        """Samples of the cells that are wanted, by modality.

        The last bits of a sample depend on the size of its batch: so samples are drawn in blocks
        that are the same however large `n` is, and all rows of a block together.
        """
        names = list(rows.conditioning.latents)
        blocks: dict[str, list[Tensor]] = {name: [] for name in names}
        for block in growing_ranges(self.n, 1, MAX_DRAWS_AT_ONCE):
            for name, z in self._draw_block(rows, block).items():
                blocks[name].append(z)
        samples = {}
        for index, name in enumerate(names):
            wanted = torch.nonzero(rows.wanted[:, index]).squeeze(1)
            if len(wanted):
                latents = torch.cat(blocks[name])[: self.n, wanted]
                decoder = self.generator.decoders[name]
                items = decode(decoder, latents.flatten(0, 1), name)
                items = items.unflatten(0, latents.shape[:2]).transpose(0, 1)
                samples[name] = CellSamples(wanted, items, latents.transpose(0, 1))
        return samples

    def _draw_block(self, rows: Rows, block: range) -> dict[str, Float[Tensor, "draw row _"]]:
        """The latents of a block of draws of all rows, arbitrary where they are not wanted."""
        count = len(rows.ids)
        tiled = rows[torch.arange(count).repeat(len(block))]
        seeds = [derive(self.seed, self.purpose, row_id, k) for k in block for row_id in rows.ids]
        try:
            drawn = self.generator.sample_missing(
                tiled.conditioning, tiled.observed, tiled.wanted, seeds
            )
        except NumericalError as error:
            raise NumericalError(f"rows {rows.ids[0]!r} to {rows.ids[-1]!r}: {error}") from error
        return {name: z.unflatten(0, (len(block), count)) for name, z in drawn.items()}

    def estimates(self, name: str, samples: CellSamples) -> list[Estimate]:
        """The best estimate of each cell of a modality."""
        scale = self.generator.scales[name].std
        return [
            best_estimate(self.modalities[name], items, latents, scale)
            for items, latents in zip(samples.items, samples.latents, strict=True)
        ]

    def spread(self, name: str, samples: CellSamples) -> list[float | None]:
        """How far the samples of each cell are apart: 0 if they are equal, 1 as the data are.

        The root mean square, over the latent's coordinates, of their standard deviation over that
        of the training split. None with a single sample.
        """
        if self.n < 2:
            return [None] * len(samples.latents)
        scaled = (samples.latents / self.generator.scales[name].std).double()
        return [round(value, 4) for value in scaled.var(1).mean(1).sqrt().tolist()]
