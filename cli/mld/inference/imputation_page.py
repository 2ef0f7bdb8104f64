"""The page of an imputation: how far its estimates can be trusted, and some of the filled rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mld.inference.manifest import ManifestRows
from mld.inference.trained_run import TrainedRun
from mld.reporting.gallery import (
    GalleryCell,
    GalleryPage,
    GalleryRow,
    GalleryTable,
    item_media,
    write_gallery,
)
from mld.reporting.number_format import format_interval, format_number, metric_title
from mld_core import Modality

SHOWN_FIGURES = 5
"""Figures of a summary shown in a cell's caption: all of a number."""


def write_page(
    path: Path,
    run: TrainedRun,
    filled: Sequence[Mapping[str, Any]],
    held_out: Mapping[str, Any] | None,
    rows: ManifestRows,
    limit: int,
) -> None:
    """Write the page of at most `limit` filled rows, evenly spaced; given cells are tinted.

    Args:
        filled: the cells, as `impute.read_filled` gives them.
        held_out: the check on held-out rows; None without one.
    """
    filled_rows: dict[str, dict[str, Any]] = {}
    for entry in filled:
        filled_rows.setdefault(entry["id"], {})[entry["modality"]] = entry
    step = max(1, len(filled_rows) // max(1, limit))
    gallery_rows = []
    for row_id in list(filled_rows)[::step][:limit]:
        index, entries = rows.ids.index(row_id), filled_rows[row_id]
        cells = {}
        for column, (name, modality) in enumerate(run.modalities.items()):
            if name in entries:
                cells[name] = _filled_cell(modality, entries[name], path.parent)
            elif bool(rows.present[index, column]):
                media = item_media(modality, rows.items[name][index])
                cells[name] = GalleryCell(media, "given", given=True)
        joint = any(entry["joint"] for entry in entries.values())
        notes = ["nothing given: generated jointly"] if joint else []
        gallery_rows.append(GalleryRow(row_id, notes, cells))
    page = GalleryPage(
        title="Filled cells",
        lede=(
            f"{len(filled):,} empty cells in {len(filled_rows):,} of {len(rows.ids):,} rows of "
            f"{rows.path.name}, each estimated from samples given the rest of its row."
        ),
        names=list(run.modalities),
        about=(
            "Tinted cells were given; the others show the best estimate. Below it are figures of "
            "the samples. The spread of the samples is 0 where they are equal, and 1 where they "
            "differ as the data do. Class agreement is the proportion of them in their commonest "
            "class."
        ),
        rows=gallery_rows,
        tables=[] if held_out is None else list(_tables(held_out)),
    )
    write_gallery(path, page)


def _filled_cell(modality: Modality, entry: Mapping[str, Any], folder: Path) -> GalleryCell:
    cell = entry["estimate"]
    x = modality.preprocess(modality.read(cell if modality.inline else folder / cell))
    figures = {
        **dict(list(entry["summary"].items())[:SHOWN_FIGURES]),
        "class agreement": entry["class_agreement"],
        "spread": entry["spread"],
    }
    captions = [
        f"{name} {format_number(value)}" for name, value in figures.items() if value is not None
    ]
    return GalleryCell(item_media(modality, x), ", ".join(captions))


def _tables(held_out: Mapping[str, Any]) -> Iterator[GalleryTable]:
    """What the check on held-out rows has found."""
    scores = held_out["modalities"]
    regions = list(
        dict.fromkeys(region["expected"] for each in scores.values() for region in each["coverage"])
    )
    yield GalleryTable(
        title="How far the estimates can be trusted",
        about=(
            f"Cells of the run's {held_out['split']} rows, which it was not trained on, were "
            "hidden in the pattern in which this table lacks cells, and estimated alike, from "
            f"{held_out['samples']} samples. A region of the samples should hold the truth in as "
            "many cells as its probability says; in brackets is a 95 % interval of what was found. "
            "Error is the distance of the samples' mean from the truth in the latent space, and "
            "spread that of the samples from their mean, in standard deviations of the data: they "
            "should be alike. The last column is the rank correlation of the two over cells: how "
            "well a cell's spread predicts its error."
        ),
        header=[
            "",
            "cells",
            *(f"{share:.0%} region" for share in regions),
            *("error", "spread", "spread and error"),
        ],
        rows=[
            [
                name,
                f"{each['cells']:,}",
                *(_covered(each["coverage"], share) for share in regions),
                *(format_number(each[key]) for key in ("error", "spread", "spread_correlation")),
            ]
            for name, each in scores.items()
        ],
    )
    metrics = [
        [
            name,
            metric_title(title, metric["unit"], metric["better"], metric["best"]),
            format_number(metric["value"]),
        ]
        for name, each in scores.items()
        for title, metric in each["metrics"].items()
    ]
    if metrics:
        yield GalleryTable(
            title="Errors of the estimates, and metrics of the samples",
            about=(
                "Of the same cells, by the metrics of each modality: ↑ higher, ↓ lower is better, "
                "→ is the value to be near to."
            ),
            header=["", "metric", "value"],
            rows=metrics,
            texts=2,
        )


def _covered(regions: Sequence[Mapping[str, float]], expected: float) -> str:
    for region in regions:
        if region["expected"] == expected:
            return f"{region['observed']:.2f} ({format_interval(region)})"
    return "–"
