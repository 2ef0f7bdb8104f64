"""Score how well the modalities of each row of a manifest match, in nats."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from mld.data.recorded import rows_by_modalities
from mld.inference.held_out import calibration_latents, check_marginals
from mld.inference.manifest import (
    ManifestRows,
    encode_manifest,
    read_manifest,
)
from mld.inference.trained_run import TrainedRun
from mld.reporting.gallery import GalleryCell, GalleryPage, GalleryRow, item_media, write_gallery
from mld.reporting.number_format import format_fixed
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.table_file import write_table
from mld_core import DataError
from mld_core.information.estimator import NODES, surprisal
from mld_core.information.measures import (
    Measure,
    entropy,
    mutual_information,
    total_correlation,
    weighted_sum,
)

BATCH_SIZE = 2000
"""Rows scored at once."""
MAIN_COLUMNS = ("total_correlation", "mean_pairwise_pmi")
"""Columns of every table of scores."""
PAGE_TITLE = "Suspicious rows"


class RowEstimate(NamedTuple):
    """A quantity of one row, in nats, and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class RowScore:
    """The scores of one row.

    Args:
        id: of the row.
        label: of the row, "" without one.
        index: of the row in the manifest, from 0.
        pointwise_total_correlation: log p(all) − Σ log p(one), over the modalities that the row
            has; None with fewer than two.
        mean_pairwise_pmi: the mean of `pairwise_pmi`, by which rows are ranked: a trained network
            estimates pairs with less variance than the joint density; None with fewer than two
            modalities.
        pairwise_pmi: the pointwise mutual information of each pair of modalities that the row has.
        log_density: of each modality's latent, per unit of the standardised latent.
        suspect: the modality that fits the rest of the row worst: its mean PMI with the others is
            lowest. A single pair blames both alike; of two modalities it is the one whose own
            log-density is lower among the rows. "" with fewer than two.
    """

    id: str
    label: str
    index: int
    pointwise_total_correlation: RowEstimate | None
    mean_pairwise_pmi: RowEstimate | None
    pairwise_pmi: Mapping[tuple[str, str], RowEstimate]
    log_density: Mapping[str, RowEstimate]
    suspect: str = ""

    def record(self) -> dict[str, Any]:
        """The row of a table: `id`, `label`, `suspect`, and estimates in nats with standard errors.

        Columns are `total_correlation` and `mean_pairwise_pmi`, `pmi:A+B` for each pair and
        `log_density:A` for each modality, each followed by its standard error, such as
        `total_correlation_se` and `pmi_se:A+B`. None where there is no estimate.
        """
        record: dict[str, Any] = {"id": self.id, "label": self.label, "suspect": self.suspect}

        def add(name: str, estimate: RowEstimate | None, of: str = "") -> None:
            value, error = estimate or (None, None)
            record[name + of] = None if value is None else round(value, 4)
            record[f"{name}_se{of}"] = None if error is None else round(error, 4)

        add(MAIN_COLUMNS[0], self.pointwise_total_correlation)
        add(MAIN_COLUMNS[1], self.mean_pairwise_pmi)
        for (a, b), estimate in self.pairwise_pmi.items():
            add("pmi", estimate, f":{a}+{b}")
        for name, estimate in self.log_density.items():
            add("log_density", estimate, f":{name}")
        return record


def score(run: TrainedRun, manifest: Path | str | ManifestRows, *, seed: int = 0) -> list[RowScore]:
    """Scores of the rows that have any modality, the lowest mean pairwise PMI first.

    All rows are scored with the same noise. SpecError if the run has no marginals, DataError if
    the manifest does not fit the run.
    """
    rows = read_manifest(run, manifest)
    if not rows.ids:
        raise DataError(f"{rows.path}: has no rows")
    check_marginals(run, "score")
    latents = encode_manifest(run, rows)
    calibration = calibration_latents(run)
    batches = [
        (names, batch)
        for names, indices in rows_by_modalities(rows.present, run.score_model.layout.names)
        for batch in indices.split(BATCH_SIZE)
        if names
    ]
    scores: list[RowScore] = []
    with counting("score", sum(len(batch) for _, batch in batches)) as show:
        for names, batch in batches:

            def on_progress(
                node: int, done: int = len(scores), batch_rows: int = len(batch)
            ) -> None:
                show(done + batch_rows * node // NODES)

            measures = _measures(names)
            result = surprisal(
                run.score_model,
                {name: latents[name][batch] for name in names},
                measures,
                derive(seed, "score"),
                shared=True,
                held_out=calibration,
                on_progress=on_progress,
            )
            if not all(bool(errors.isfinite().all()) for errors in result.errors.values()):
                raise DataError(
                    f"{rows.path}: a score is not finite: a latent may be far outside the "
                    "training data"
                )
            columns = []
            for measure in measures:
                values, errors = result.rows(measure)
                columns.append(map(RowEstimate, values.tolist(), errors.tolist()))
            for index, *estimates in zip(batch.tolist(), *columns, strict=True):
                scores.append(_row_score(rows, index, names, estimates))
    return sorted(_with_suspects(scores), key=_rank)


def write_scores(path: Path, scores: Sequence[RowScore]) -> None:
    """Write the records to a CSV or JSONL file, by its suffix, in the given order.

    Columns are in the order of the record that has most of them.
    """
    records = [score.record() for score in scores]
    longest_first = sorted(records, key=len, reverse=True)
    columns = list(dict.fromkeys(name for record in longest_first for name in record))
    write_table(path, columns, records)


def write_page(
    path: Path, run: TrainedRun, scores: Sequence[RowScore], rows: ManifestRows, limit: int
) -> None:
    """Write the page of the first `limit` scored rows that have two modalities or more."""
    gallery_rows = []
    for row in [row for row in scores if row.pairwise_pmi][:limit]:
        cells = {
            name: GalleryCell(
                item_media(run.modalities[name], rows.items[name][row.index]),
                f"log-density {format_fixed(density.value, 1)}"
                + (", suspect" if name == row.suspect else ""),
            )
            for name, density in row.log_density.items()
        }
        gallery_rows.append(GalleryRow(row.id, _notes(row), cells))
    page = GalleryPage(
        title=PAGE_TITLE,
        lede=(
            f"{len(scores):,} rows of {rows.path.name}, ranked by the mean pointwise mutual "
            "information (PMI) of their pairs of modalities, in nats, lowest first."
        ),
        names=list(run.modalities),
        about=(
            "A negative PMI means that the pair is less likely than two items drawn independently: "
            "the row may be mispaired or mislabelled; the suspect is the cell that fits the others "
            "worst. Below the mean are the total correlation, "
            "which measures the dependence of all modalities together, and the PMI of each pair. "
            "Log-densities are per unit of the standardised latents."
        ),
        rows=gallery_rows,
    )
    write_gallery(path, page)


def _notes(row: RowScore) -> list[str]:
    assert row.mean_pairwise_pmi is not None
    assert row.pointwise_total_correlation is not None
    pmi, error = row.mean_pairwise_pmi
    notes = [
        f"mean PMI {format_fixed(pmi, signed=True)} ± {error:.2f}",
        f"total correlation {format_fixed(row.pointwise_total_correlation.value, signed=True)}",
    ]
    if row.label:
        notes.append(f"label {row.label}")
    for (a, b), estimate in row.pairwise_pmi.items():
        notes.append(f"{a}, {b}: {format_fixed(estimate.value, signed=True)}")
    return notes


def _measures(names: Sequence[str]) -> list[Measure]:
    """What is estimated for rows with these modalities, in the order of `_row_score`.

    Total correlation, mean PMI and the PMI of each pair, if there are any; then the entropies.
    """
    pairs = [_symmetrised_mi(a, b) for a, b in combinations(names, 2)]
    mean_pmi = weighted_sum(*((1 / len(pairs), measure) for measure in pairs))
    totals = [total_correlation(names), mean_pmi] if pairs else []
    return [*totals, *pairs, *(entropy([name]) for name in names)]


def _symmetrised_mi(a: str, b: str) -> Measure:
    """The mean of I(a; b) estimated from p(a | b) and from p(b | a)."""
    return weighted_sum((0.5, mutual_information([a], [b])), (0.5, mutual_information([b], [a])))


def _row_score(
    rows: ManifestRows, index: int, names: Sequence[str], estimates: Sequence[RowEstimate]
) -> RowScore:
    """The scores of one row from the estimates of `_measures`, in their order."""
    pairs = list(combinations(names, 2))
    total, mean_pmi = estimates[:2] if pairs else (None, None)
    surprisals = zip(names, estimates[-len(names) :], strict=True)
    return RowScore(
        id=rows.ids[index],
        label=rows.labels[index],
        index=index,
        pointwise_total_correlation=total,
        mean_pairwise_pmi=mean_pmi,
        pairwise_pmi=dict(zip(pairs, estimates[2 : -len(names)], strict=True)),
        log_density={name: RowEstimate(-value, error) for name, (value, error) in surprisals},
    )


def _with_suspects(scores: Sequence[RowScore]) -> Iterator[RowScore]:
    """The scores with the suspect modality of each row."""
    densities: dict[str, list[float]] = {}
    for score in scores:
        for name, estimate in score.log_density.items():
            densities.setdefault(name, []).append(estimate.value)
    for values in densities.values():
        values.sort()

    def fit(score: RowScore, name: str) -> tuple[float, float]:
        """How well a modality fits its row: its mean PMI, then the rank of its own density."""
        others = [pmi.value for pair, pmi in score.pairwise_pmi.items() if name in pair]
        ranks = densities[name]
        rank = bisect_left(ranks, score.log_density[name].value) / len(ranks)
        return sum(others) / len(others), rank

    for score in scores:
        names = score.log_density if score.pairwise_pmi else ()
        yield replace(score, suspect=min(names, key=partial(fit, score), default=""))


def _rank(score: RowScore) -> float:
    return math.inf if score.mean_pairwise_pmi is None else score.mean_pairwise_pmi.value
