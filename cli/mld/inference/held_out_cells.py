"""How far imputed cells can be trusted: cells of held-out rows, hidden as a manifest lacks its own.

The rows are those of the run's test split, which nothing was trained on. Of each, the cells that
rows of the manifest lack are hidden and drawn, and compared with what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from mld.data.encoding import decode
from mld.inference.cell_sampler import CellSampler, CellSamples
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.stages import ENCODE
from mld_core import SplitName, plugin_call

SPLIT: SplitName = "test"
"""The split of the held-out rows."""
BATCH_SIZE = 64
"""Rows drawn at once."""
LEVELS = (0.5, 0.8, 0.95)
"""Probabilities of the regions whose coverage is told."""
Z = 1.96
"""Half-width of a 95 % interval in standard errors."""

Gaps = Mapping[tuple[tuple[str, ...], tuple[str, ...]], int]
"""How many rows of a manifest have some modalities, and lack some that are wanted."""


@dataclass(frozen=True)
class HiddenCells:
    """Rows of which the same cells are hidden.

    Args:
        rows: indices of rows of the held-out split.
        given: names of the modalities that stay.
        wanted: names of those that are hidden where the row has them.
    """

    rows: Int64[Tensor, " row"]
    given: tuple[str, ...]
    wanted: tuple[str, ...]


def hide_cells(
    gaps: Gaps, present: Bool[Tensor, "row modality"], names: Sequence[str], limit: int
) -> list[HiddenCells]:
    """Hide cells of about `limit` rows at most, in the pattern of a manifest's gaps.

    Each pattern gets its share of the rows, but at least one, the most frequent pattern first; no
    row is used twice. A row fits a pattern if it has all given modalities, and at least one that
    is wanted.
    """
    total = sum(gaps.values())
    free = torch.ones(len(present)).bool()
    hidden = []
    for (given, wanted), count in sorted(gaps.items(), key=lambda item: -item[1]):
        fits = free & present[:, [names.index(name) for name in wanted]].any(1)
        fits &= present[:, [names.index(name) for name in given]].all(1)
        rows = torch.nonzero(fits).squeeze(1)[: max(1, round(limit * count / total))]
        if len(rows):
            free[rows] = False
            hidden.append(HiddenCells(rows, given, wanted))
    return hidden


def check_held_out_cells(sampler: CellSampler, gaps: Gaps, limit: int) -> dict[str, Any]:
    """How well hidden cells of up to `limit` held-out rows are estimated, as JSON.

    For each modality with hidden cells: the number of `cells`; `coverage` of regions of the samples
    (see `coverage`); `error`, the root mean square distance of the samples' mean from the truth in
    the standardised latent space, and `spread`, that of the samples from their mean, which is as
    large if the samples are as uncertain as they should be; `spread_correlation`, the rank
    correlation of the two over cells; and `metrics`, the modality's own of best estimates and of
    samples beside the truth, which is the held-out cell as the autoencoder reconstructs it.
    """
    run, names = sampler.run, list(sampler.run.modalities)
    run.run_dir.verify_stage(ENCODE.name)
    cache = run.run_dir.read_tensors(run.run_dir.latents(SPLIT))
    latents = sampler.generator.model.layout.split(cache["z"])
    hidden = hide_cells(gaps, cache["present"], names, limit)
    truths: dict[str, list[Tensor]] = {}
    drawn: dict[str, list[CellSamples]] = {}
    with counting("check on held-out rows", sum(len(cells.rows) for cells in hidden)) as show:
        done = 0
        for cells in hidden:
            for rows in cells.rows.split(BATCH_SIZE):
                ids = [str(row) for row in rows.tolist()]
                given = {name: latents[name][rows] for name in cells.given}
                for name, samples in sampler.draw(ids, given, cells.wanted).items():
                    recorded = cache["present"][rows, names.index(name)]
                    truths.setdefault(name, []).append(latents[name][rows][recorded])
                    drawn.setdefault(name, []).append(samples.rows(recorded))
                done += len(rows)
                show(done)
    return {
        "split": SPLIT,
        "samples": sampler.n,
        "modalities": {
            name: _scores(sampler, name, CellSamples.join(drawn[name]), torch.cat(truths[name]))
            for name in names
            if any(len(part) for part in truths.get(name, ()))
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
    sampler: CellSampler, name: str, samples: CellSamples, truth: Float[Tensor, "cell latent"]
) -> dict[str, Any]:
    """The scores of one modality's cells."""
    from scipy.stats import spearmanr

    scale = sampler.scale(name)
    draws, scaled_truth = samples.latents / scale, truth / scale
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
        "metrics": _metrics(sampler, name, samples, truth),
    }


def _metrics(
    sampler: CellSampler, name: str, samples: CellSamples, truth: Float[Tensor, "cell latent"]
) -> dict[str, Any]:
    """The modality's own metrics of estimates beside the truth, by name."""
    modality = sampler.run.modalities[name]
    items = decode(sampler.run.autoencoders[name], truth, name)
    best = torch.stack([estimate.item for estimate in sampler.estimates(name, samples)])
    metrics = {}
    for title, metric in modality.metrics().items():
        if metric.against != "truth":
            continue
        with plugin_call(f"kind {modality.kind!r}: metric {title!r} of {name}"):
            value = float(metric.measure(best, items))
        metrics[title] = {
            "value": value if np.isfinite(value) else None,
            "better": metric.better,
            "unit": metric.unit,
        }
    return metrics
