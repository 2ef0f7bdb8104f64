"""How well the modalities of each row belong together, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mld.inference.manifest import ManifestRows, write_table
from mld.reporting.gallery import GalleryCell, GalleryPage, Row, exhibits, write_gallery
from mld.reporting.number_format import format_fixed
from mld.storage.files import atomic_write
from mld_core import DataError, Modality
from mld_core.diffusion.sampling import ScoreModel
from mld_core.information.estimator import NODES, check_density, surprisal
from mld_core.information.likelihood import LogDensity
from mld_core.information.measures import (
    Density,
    Measure,
    entropy,
    mutual_information,
    total_correlation,
    weighted_sum,
)

BATCH = 2000
"""Rows scored at once."""

Told = tuple[float, float]
"""Nats, and their standard error."""


@dataclass(frozen=True)
class RowScore:
    """One row's scores.

    Args:
        id, label: of the row; the label is "" without one.
        overall: the pointwise total correlation of all that the row has: the sum of the marginal
            errors minus the joint error; None where the row has fewer than two modalities.
        by_pair: the mean of `pairs`, which rows are ranked by: a trained network's joint density
            of everything scatters more than its densities of one given another; None like overall.
        pairs: the pointwise mutual information of each pair that the row has.
        typicality: the log-density of each latent, in standardised coordinates.
        place: in the manifest, from 0.
    """

    id: str
    label: str
    overall: Told | None
    mean_pairwise_pmi: Told | None
    pairs: Mapping[tuple[str, str], Told]
    typicality: Mapping[str, Told]
    place: int

    def flat(self) -> dict[str, Any]:
        """One line of a table."""
        told: dict[str, Any] = {"id": self.id, "label": self.label}
        told |= _two("overall", self.overall)
        told |= _two("by pair", self.mean_pairwise_pmi)
        for (a, b), own in self.pairs.items():
            told |= _two(f"{a}+{b}", own)
        for name, own in self.typicality.items():
            told |= _two(f"typicality {name}", own)
        return told


def _two(name: str, told: Told | None) -> dict[str, Any]:
    value, error = (None, None) if told is None else (round(number, 4) for number in told)
    return {name: value, f"{name} error": error}


def score_rows(
    model: ScoreModel,
    manifest_rows: ManifestRows,
    latents: Mapping[str, Float[Tensor, "row _"]],
    held_out: Mapping[str, Float[Tensor, "_ _"]] | None,
    seed: int,
    told: Callable[[float], None],
) -> list[RowScore]:
    """The scores of all rows of a manifest, those that belong together least first.

    Every row gets the same noise. Rows are taken by what they have. ValueError if the model knows
    no marginals. `told` hears the share that is done.
    """
    scores: list[RowScore] = []
    parts = [
        (names, part)
        for names, rows in _patterns(model.layout.names, manifest_rows.present)
        for part in rows.split(BATCH)
    ]
    for number, (names, part) in enumerate(parts):
        whole, pairs, alone = _measures(names)
        measures = [*whole, *pairs.values(), *alone.values()]
        done = number / len(parts)
        found = surprisal(
            model,
            {name: latents[name][part] for name in names},
            measures,
            seed,
            shared=True,
            held_out=held_out,
            on_progress=lambda node, done=done: told(done + node / NODES / len(parts)),  # type: ignore[misc]
        )
        if not all(bool(own.isfinite().all()) for own in found.errors.values()):
            raise DataError(
                f"{manifest_rows.path}: a score is not finite: is a latent far off the data?"
            )
        values = [found.rows(measure) for measure in measures]
        for row, place in enumerate(part.tolist()):
            own = iter([(float(value[row]), float(error[row])) for value, error in values])
            overall, mean_pairwise_pmi = (next(own), next(own)) if whole else (None, None)
            together = {pair: next(own) for pair in pairs}
            density = {
                name: (-value, error) for name, (value, error) in zip(alone, own, strict=True)
            }
            label = manifest_rows.labels[place]
            name = manifest_rows.ids[place]
            scores.append(
                RowScore(name, label, overall, mean_pairwise_pmi, together, density, place)
            )
    return sorted(
        scores, key=lambda own: own.mean_pairwise_pmi[0] if own.mean_pairwise_pmi else math.inf
    )


def log_densities(
    model: ScoreModel,
    manifest_rows: ManifestRows,
    latents: Mapping[str, Float[Tensor, "row _"]],
    density: Density,
    by: Callable[[Mapping[str, Float[Tensor, "row _"]]], LogDensity],
) -> LogDensity:
    """The log-density of the rows that have all it is about; NaN for the others.

    ValueError if the model knows no such density.
    """
    names = [*density.of, *density.given]
    check_density(model, density, latents)
    has = manifest_rows.present[:, [model.layout.names.index(name) for name in names]].all(1)
    told = [torch.full((len(has),), math.nan) for _ in range(3)]
    evaluations = 0
    for rows in torch.nonzero(has).squeeze(1).split(BATCH):
        found = by({name: latents[name][rows] for name in names})
        evaluations = max(evaluations, found.evaluations)
        parts = (found.standardised, found.raw, found.standard_error)
        for whole, part in zip(told, parts, strict=True):
            whole[rows] = part
    return LogDensity(*told, evaluations)


def _patterns(
    names: Sequence[str], present: Bool[Tensor, "row modality"]
) -> Iterator[tuple[list[str], Tensor]]:
    """The rows that have the same modalities, and these; rows that have none are left out."""
    for pattern in present.unique(dim=0):
        own = [name for name, has in zip(names, pattern.tolist(), strict=True) if has]
        if own:
            yield own, torch.nonzero((present == pattern).all(1)).squeeze(1)


def _measures(
    names: Sequence[str],
) -> tuple[list[Measure], dict[tuple[str, str], Measure], dict[str, Measure]]:
    """Overall and by pair, where there are pairs; each pair; each modality."""
    pairs = {(a, b): _both_ways(a, b) for a, b in combinations(names, 2)}
    mean_pairwise_pmi = weighted_sum(*((1 / len(pairs), own) for own in pairs.values()))
    whole = [total_correlation(names), mean_pairwise_pmi] if pairs else []
    return whole, pairs, {name: entropy([name]) for name in names}


def _both_ways(a: str, b: str) -> Measure:
    """The mean of I(a; b) as seen from a and from b."""
    return weighted_sum((0.5, mutual_information([a], [b])), (0.5, mutual_information([b], [a])))


def write_scores(path: Path, scores: Sequence[RowScore]) -> None:
    """A CSV or JSONL file, by its suffix, in the order given."""
    rows = [own.flat() for own in scores]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as partial:
        partial.write_text(write_table(path, columns, rows), encoding="utf-8")


def write_page(
    path: Path,
    scores: Sequence[RowScore],
    manifest_rows: ManifestRows,
    modalities: Mapping[str, Modality],
    shown: int,
) -> None:
    """The page of the rows that belong together least."""
    rows = []
    for own in [score for score in scores if score.overall][:shown]:
        assert own.overall is not None
        assert own.mean_pairwise_pmi is not None
        pmi, error = own.mean_pairwise_pmi
        notes = [f"{format_fixed(pmi, signed=True)} ± {error:.2f} nats a pair"]
        notes += [f"overall {format_fixed(own.overall[0], signed=True)}"]
        notes += [f"label {own.label}"] if own.label else []
        notes += [
            f"{a}, {b}: {format_fixed(told[0], signed=True)}" for (a, b), told in own.pairs.items()
        ]
        cells = {
            name: GalleryCell(
                exhibits(modalities[name], manifest_rows.items[name][own.place]),
                f"log-density {told[0]:.1f}".replace(" -", " −"),
            )
            for name, told in own.typicality.items()
        }
        rows.append(Row(own.id, notes, cells))
    lede = (
        f"{len(scores):,} rows of {manifest_rows.path.name}, scored by how many nats their "
        "modalities tell about each other: below zero where chance would have paired them better."
    )
    about = (
        "Those that belong together least come first. Log-densities are per unit of the "
        "standardised latents."
    )
    names = list(modalities)
    write_gallery(path, GalleryPage("Suspicious rows", lede, names, about, rows))
