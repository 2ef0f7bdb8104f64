"""Whether joint samples copy training items, measured in the latent space of each modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from mld.data.encoding import encode
from mld.data.types import LatentCache, SplitLatents
from mld.evaluation.evaluator import ModalityEvaluator
from mld_core import SplitName
from mld_core.diffusion.standardiser import Standardiser
from mld_core.evaluation.memorisation import nearness

MAX_TRAINING_ROWS = 20_000
MAX_HELD_OUT_ROWS = 2_000
"""Rows that samples are compared with, the first of each split."""
COPYING = 0.75
"""A share of nearer samples whose interval lies above is warned about."""


def memorisation(
    evaluators: Mapping[str, ModalityEvaluator],
    items: Mapping[str, Shaped[Tensor, " sample *item"]],
    latents: LatentCache,
    split: SplitName,
) -> dict[str, Any]:
    """How near joint samples lie to training items, beside held-out items, by modality.

    Samples are decoded and encoded again, so that those of every method are compared in one space.
    A modality with fewer than two samples or held-out items is left out.

    Args:
        items: the joint samples; empty if there are none.
        split: of the held-out items.
    """
    standardisers = latents.standardiser.by_modality(latents.layout)
    scores: dict[str, Any] = {}
    for index, (name, standardiser) in enumerate(standardisers.items()):
        training, held_out = (
            _present(rows, index, latents, most)
            for rows, most in (
                (latents.train, MAX_TRAINING_ROWS),
                (latents.split(split), MAX_HELD_OUT_ROWS),
            )
        )
        if name not in items or min(len(items[name]), len(held_out)) < 2 or not len(training):
            continue
        evaluator = evaluators[name]
        sampled = encode(evaluator.autoencoder, items[name], evaluator.latent_dim)
        result = nearness(*(_comparable(z, standardiser) for z in (sampled, held_out, training)))
        scores[name] = {
            "value": result.nearer,
            "low": max(0.0, result.nearer - result.half_width),
            "high": min(1.0, result.nearer + result.half_width),
            "n": len(sampled),
            "sample_distance": result.sample_distance,
            "held_out_distance": result.held_out_distance,
            "training_rows": len(training),
        }
    return scores


def memorisation_warnings(scores: Mapping[str, Any]) -> Iterator[str]:
    """Of modalities whose samples copy training items."""
    for name, score in scores.items():
        if score["low"] > COPYING:
            yield (
                f"Samples of {name} lie nearer to training items than held-out items do in "
                f"{score['value']:.2f} of the comparisons (0.5 if alike): the model repeats what "
                "it was trained on. More training rows, fewer diffuse.steps or a smaller network "
                "may help."
            )


def _present(
    rows: SplitLatents, index: int, latents: LatentCache, most: int
) -> Float[Tensor, "row _"]:
    """The latents of one modality of the first rows that have it."""
    chosen = rows.present[:, index].nonzero().flatten()[:most]
    name = latents.layout.names[index]
    return latents.layout.split(rows.z)[name][chosen]


def _comparable(z: Float[Tensor, "row _"], standardiser: Standardiser) -> Float[Tensor, "row _"]:
    """Standardised latents, without the coordinates that never vary."""
    return standardiser.standardise(z)[:, ~standardiser.dead].float()
