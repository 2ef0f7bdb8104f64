"""How far imputed cells can be trusted: cells of held-out rows, hidden as a manifest lacks its own.

The rows are those of the run's test split, which nothing was trained on. Of each, the cells that
rows of the manifest lack are hidden and drawn, and compared with what they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mld.data.encoding import decode
from mld.data.loading import layout_of
from mld.evaluation.plugin_metric import measure
from mld.inference.cell_sampler import CellSampler, CellSamples, Rows
from mld.inference.held_out import cached_latents
from mld.inference.trained_run import TrainedRun
from mld.pipeline.joint_method import Conditioning
from mld.runtime.compute import device_of
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld_core import SplitName
from mld_core.diffusion.latent_layout import Present

SPLIT: SplitName = "test"
"""The split of the held-out rows."""
BATCH_SIZE = 64
"""Rows drawn at once."""
LEVELS = (0.5, 0.8, 0.95)
"""Probabilities of the regions whose coverage is told."""
Z = 1.96
"""Half-width of a 95 % interval in standard errors."""


def hide_cells(
    observed: Present, wanted: Present, present: Present, limit: int
) -> tuple[Int64[Tensor, " row"], Present, Present]:
    """Hide cells of at most `limit` held-out rows, each as a row of a table lacks cells.

    Returns the indices of the rows, what stays observed in each, and what is hidden in it; rows in
    which nothing would be hidden are left out.

    Args:
        observed, wanted: the modalities that each incomplete row of the table has, and those that
            it lacks and that are wanted; the rows that are imitated are evenly spaced.
        present: what the held-out rows have.
    """
    order = torch.arange(len(present))
    imitated = order * len(wanted) // max(1, min(len(present), limit)) % len(wanted)
    hidden = present & wanted[imitated]
    rows = order[hidden.any(1)][:limit]
    return rows, present[rows] & observed[imitated[rows]], hidden[rows]


def check_held_out_cells(
    run: TrainedRun, sampler: CellSampler, observed: Present, wanted: Present, limit: int
) -> dict[str, Any]:
    """How well hidden cells of up to `limit` held-out rows are estimated, as JSON.

    For each modality with hidden cells: the number of `cells`; `coverage` of regions of the samples
    (see `coverage`); `error`, the root mean square distance of the samples' mean from the truth in
    the standardised latent space, and `spread`, that of the samples from their mean, which is as
    large if the samples are as uncertain as they should be; `spread_correlation`, the rank
    correlation of the two over cells; and `metrics`, the modality's own of best estimates and of
    samples beside the truth, which is the held-out cell as the autoencoder reconstructs it.

    Args:
        observed, wanted: as of `hide_cells`, in the order of the run's modalities.
    """
    cache = cached_latents(run, SPLIT)
    index, stay, hidden = hide_cells(observed, wanted, cache.present, limit)
    latents = layout_of(run.modalities).split(cache.z[index])
    rows = Rows([str(row) for row in index.tolist()], Conditioning({}, latents), stay, hidden)
    truths: dict[str, list[Tensor]] = {}
    drawn: dict[str, list[CellSamples]] = {}
    with counting("check on held-out rows", len(index)) as show:
        for part in torch.arange(len(index)).split(BATCH_SIZE):
            for name, samples in sampler.draw(rows[part]).items():
                truths.setdefault(name, []).append(latents[name][part[samples.rows]])
                drawn.setdefault(name, []).append(samples)
            show(int(part[-1]) + 1)
    return {
        "split": SPLIT,
        "limit": limit,
        "samples": sampler.n,
        "modalities": {
            name: _scores(sampler, name, drawn[name], torch.cat(truths[name]))
            for name in run.modalities
            if name in drawn
        },
    }


def rank_of_truth(
    draws: Float[Tensor, "cell draw latent"], truth: Float[Tensor, "cell latent"], seed: int
) -> Float64[np.ndarray, " cell"]:
    """The rank of each truth among its draws by the distance from the centre of all, in (0, 1].

    If the truth is one more draw from the same distribution, it has each of the ranks 1 to
    draws + 1 with the same probability, in any number of dimensions, since the centre includes it;
    equal distances are ordered at random. So the region of probability p holds the truths whose
    rank, divided by draws + 1, is at most p.
    """
    points = torch.cat([truth[:, None], draws], 1).double()
    distances = (points - points.mean(1, keepdim=True)).square().sum(2).numpy()
    tolerance = 1e-9 * distances.max(1, keepdims=True)
    closer = distances < distances[:, :1] - tolerance
    equal = np.abs(distances - distances[:, :1]) <= tolerance
    order = np.random.default_rng(seed).random(distances.shape)
    ranks = 1 + (closer | (equal & (order < order[:, :1]))).sum(1)
    ratios: Float64[np.ndarray, " cell"] = ranks / points.shape[1]
    return ratios


def coverage(ranks: Float64[np.ndarray, " cell"], draws: int) -> list[dict[str, float]]:
    """How many truths lie in the region of each level, and how many should.

    Regions have probabilities that are multiples of 1 / (draws + 1): `expected` is the largest one
    that is at most the level; a level below the smallest is left out. `low` and `high` are the 95 %
    interval of `observed` (Wilson 1927).
    """
    results = []
    for level in LEVELS:
        expected = int(level * (draws + 1) + 1e-9) / (draws + 1)
        if expected > 0:
            observed, n = float((ranks < expected + 1e-9).mean()), len(ranks)
            centre = (observed + Z**2 / (2 * n)) / (1 + Z**2 / n)
            half = Z * (observed * (1 - observed) / n + Z**2 / (4 * n**2)) ** 0.5 / (1 + Z**2 / n)
            result = {"level": level, "expected": expected, "observed": observed}
            results.append({**result, "low": centre - half, "high": centre + half})
    return results


def _scores(
    sampler: CellSampler,
    name: str,
    parts: Sequence[CellSamples],
    truth: Float[Tensor, "cell latent"],
) -> dict[str, Any]:
    """The scores of one modality's cells."""
    from scipy.stats import spearmanr

    scale = sampler.generator.scales[name].std
    draws, scaled_truth = torch.cat([part.latents for part in parts]) / scale, truth / scale
    errors = (draws.mean(1) - scaled_truth).double().square().mean(1)
    spreads = draws.double().var(1).mean(1) if sampler.n > 1 else None
    correlation = None
    if spreads is not None and min(len(errors.unique()), len(spreads.unique())) > 1:
        correlation = float(spearmanr(spreads, errors).statistic)
    ranks = rank_of_truth(draws, scaled_truth, derive(sampler.seed, "held out", name))
    return {
        "cells": len(truth),
        "coverage": coverage(ranks, sampler.n),
        "error": float(errors.mean().sqrt()),
        "spread": None if spreads is None else float(spreads.mean().sqrt()),
        "spread_correlation": correlation,
        "metrics": _metrics(sampler, name, parts, truth),
    }


def _metrics(
    sampler: CellSampler,
    name: str,
    parts: Sequence[CellSamples],
    truth: Float[Tensor, "cell latent"],
) -> dict[str, Any]:
    """The modality's own metrics of estimates and of samples beside the truth, by name."""
    modality, decoder = sampler.modalities[name], sampler.generator.decoders[name]
    items = decode(decoder, truth, name)
    best = torch.stack(
        [estimate.item for part in parts for estimate in sampler.estimates(name, part)]
    )
    metrics, measured = modality.metrics(), {"truth": best}
    if sampler.n > 1 and any(metric.against == "draws" for metric in metrics.values()):
        measured["draws"] = torch.cat([part.items for part in parts])
    return {
        title: {
            "value": measure(
                name, modality, title, metric, measured[metric.against], items, device_of(decoder)
            ),
            "better": metric.better,
            "best": metric.best,
            "unit": metric.unit,
        }
        for title, metric in metrics.items()
        if metric.against in measured
    }
