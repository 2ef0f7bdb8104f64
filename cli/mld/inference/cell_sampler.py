"""Samples of cells of rows, given other cells of the same rows, and estimates from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mld.data.encoding import decode
from mld.data.estimates import Estimate, best_estimate
from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.joint_method import Conditioning
from mld.runtime.seeds import derive
from mld_core import NumericalError


@dataclass(frozen=True)
class CellSamples:
    """Samples of one modality in some rows.

    Args:
        items: in data space.
        latents: of the items, raw.
    """

    items: Shaped[Tensor, " row draw *item"]
    latents: Float[Tensor, "row draw latent"]

    @classmethod
    def join(cls, parts: Sequence[CellSamples]) -> CellSamples:
        """The rows of all parts, one after the other."""
        items, latents = ([getattr(part, key) for part in parts] for key in ("items", "latents"))
        return cls(torch.cat(items), torch.cat(latents))

    def rows(self, chosen: Bool[Tensor, " row"]) -> CellSamples:
        """The samples of the chosen rows."""
        return CellSamples(self.items[chosen], self.latents[chosen])


@dataclass(frozen=True)
class CellSampler:
    """Draws `n` samples of each cell.

    Args:
        purpose: enters the seeds, beside `seed` and the row's id.
    """

    run: TrainedRun
    generator: DiffusionGenerator
    n: int
    seed: int
    purpose: str

    def draw(
        self, ids: Sequence[str], given: Mapping[str, Float[Tensor, "row _"]], wanted: Sequence[str]
    ) -> dict[str, CellSamples]:
        """Samples of the wanted modalities of rows, by name.

        The last bits of a sample depend on the size of its batch: so the first samples of all rows
        are drawn together, then the second ones. They are the same however large `n` is.

        Args:
            ids: of the rows.
            given: raw latents of these rows by modality.
        """
        draws = []
        for k in range(self.n):
            seeds = [derive(self.seed, self.purpose, row_id, k) for row_id in ids]
            try:
                draws.append(self.generator.sample(Conditioning({}, given), wanted, seeds).latents)
            except NumericalError as error:
                raise NumericalError(f"rows {ids[0]!r} to {ids[-1]!r}: {error}") from error
        samples = {}
        for name in wanted:
            autoencoder = self.run.autoencoders[name]
            items = [decode(autoencoder, draw[name], name) for draw in draws]
            latents = [draw[name] for draw in draws]
            samples[name] = CellSamples(torch.stack(items, 1), torch.stack(latents, 1))
        return samples

    def scale(self, name: str) -> Float[Tensor, " latent"]:
        """Standard deviation of each coordinate of a modality's latents in the training split."""
        model = self.generator.model
        index = model.layout.names.index(name)
        return model.standardiser.std[model.layout.modality_index == index]

    def estimates(self, name: str, samples: CellSamples) -> list[Estimate]:
        """The best estimate of each row's cell."""
        modality, scale = self.run.modalities[name], self.scale(name)
        return [
            best_estimate(modality, items, latents, scale)
            for items, latents in zip(samples.items, samples.latents, strict=True)
        ]

    def spread(self, name: str, samples: CellSamples) -> list[float | None]:
        """How far the samples of each cell are apart: 0 if they are equal, 1 as the data are.

        The root mean square, over the latent's coordinates, of their standard deviation over that
        of the training split. None with a single sample.
        """
        if self.n < 2:
            return [None] * len(samples.latents)
        variances = (samples.latents / self.scale(name)).double().var(1).mean(1)
        return [round(value, 4) for value in variances.sqrt().tolist()]
