"""The leaderboard as one self-contained page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mld.bench.aggregate import Figure, Line
from mld.bench.cells import Bench
from mld.bench.figures import charts_of, legend_of
from mld.bench.suite import SuiteSpec
from mld.bench.tables import (
    COMPARING,
    READING,
    Entry,
    Group,
    difference_table,
    leader,
    main_table,
    one_to_one_table,
    overall_table,
    read,
)
from mld.config.yaml_document import dump_yaml
from mld.reporting.charts import Dot
from mld.reporting.html import environment
from mld.reporting.number_format import format_number
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES

SHOWN = 12
"""With more variants than this, tables alone tell their figures, and not tracks or heat too."""


@dataclass(frozen=True)
class Track:
    """One variant on a panel."""

    name: str
    dots: Sequence[Dot]
    entry: Entry
    apart: bool = False


@dataclass(frozen=True)
class Panel:
    """One measure of all variants, as dots from 0 to a limit; `mark` is its reference."""

    title: str
    note: str
    limit: float
    tracks: Sequence[Track]
    mark: float | None


@dataclass(frozen=True)
class Heat:
    """One share of every set of modalities and variant."""

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[Figure, Entry] | None]]]


def page_of(
    bench: Bench,
    told: SuiteSpec,
    lede: str,
    groups: Sequence[Group],
    failed: Sequence[tuple[str, str]],
) -> str:
    """The page's HTML."""
    sections = [
        {
            "group": group,
            "panels": _panels(group),
            "tables": [
                table for table in (main_table(group), one_to_one_table(group)) if table.rows
            ],
            "differences": difference_table(group),
            "charts": charts_of(told, group),
            "legend": legend_of(told, group),
        }
        for group in groups
    ]
    return (
        environment("mld.bench")
        .get_template("leaderboard.html.j2")
        .render(
            title=told.name,
            lede=lede,
            headlines=_headlines(bench, groups),
            heats=_heats(groups),
            overall=overall_table(groups),
            sections=sections,
            failed=failed,
            published=told.published,
            reading=READING,
            comparing=COMPARING,
            facts=_facts(bench, groups),
            command=shlex.join(["mld", *sys.argv[1:]]),
            suite=dump_yaml(told.model_dump(mode="json", exclude_unset=True)),
        )
    )


def _headlines(bench: Bench, groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """The best of the first set, and what all of it took: title, figure, note."""
    found = []
    for column, title in (
        ("joint_coherence", "Best joint coherence"),
        ("conditional_coherence", "Best conditional coherence"),
    ):
        known = [
            (figure.value, line, figure)
            for line in (groups[0].lines if groups else ())
            if (figure := line.figure(column))
        ]
        if known:
            _, line, figure = max(known, key=lambda own: own[0])
            entry, ceiling = read(figure, column), line.figure("joint_ceiling")
            note = f"{line.variant} on {groups[0].name}; {entry.note}"
            if ceiling and column == "joint_coherence":
                note += f"; ceiling {ceiling.value:.3f}"
            found.append((title, f"{figure.value:.3f}", note))
    lines = [line for group in groups for line in group.lines]
    keys = {key for line in lines for key in line.keys.values()}
    sets = f"{len(groups)} sets of modalities" if len(groups) > 1 else "one set of modalities"
    found.append(("Cells done", format_number(len(keys)), f"on {sets}"))
    return found


def _panels(group: Group) -> list[Panel]:
    if not 1 < len(group.lines) + len(group.published) <= SHOWN:
        return []
    measures = [
        ("joint_coherence", "Joint coherence", "joint_ceiling", "ceiling"),
        ("conditional_coherence", "Conditional coherence, mean", "", ""),
    ] + [
        (
            f"joint>{name} frechet",
            f"Frechet distance, {name}",
            f"{name} reconstruction_frechet",
            "reconstructions",
        )
        for name in group.modalities
    ]
    panels = (_panel(group, *measure) for measure in measures)
    return [panel for panel in panels if panel]


def _panel(group: Group, column: str, title: str, marked: str, what: str) -> Panel | None:
    figures = [(line, figure) for line in group.lines if (figure := line.figure(column))]
    if not figures:
        return None
    best = leader(group.lines, column)
    tracks = [
        Track(
            line.variant,
            [Dot(figure.value, figure.low, figure.high)],
            read(figure, column, line is best),
        )
        for line, figure in figures
    ]
    tracks += [
        Track(
            item.method,
            [Dot(item.value, hollow=True)],
            Entry(format_number(item.value), note=item.source),
            apart=True,
        )
        for item in group.published
        if item.metric == column
    ]
    reference = group.lines[0].figure(marked)
    mark = reference.value if reference else None
    share = column.endswith("coherence")
    highest = max([dot.value for track in tracks for dot in track.dots] + [mark or 0.0])
    note = "" if reference is None else f"{what} {read(reference, marked).told}"
    return Panel(title, note, 1.0 if share else highest or 1.0, tracks, mark)


def _heats(groups: Sequence[Group]) -> list[Heat]:
    """Shares of all sets beside each other, where there are several."""
    variants = list(dict.fromkeys(line.variant for group in groups for line in group.lines))
    if len(groups) < 2 or len(variants) > SHOWN:
        return []
    heats = []
    for column, title in (
        ("joint_coherence", "Joint coherence"),
        ("conditional_coherence", "Conditional coherence, mean over what is given and wanted"),
    ):
        rows = []
        for group in groups:
            own = {line.variant: line for line in group.lines}
            rows.append((group.name, [_warm(own.get(name), column) for name in variants]))
        if any(cell for _, cells in rows for cell in cells):
            heats.append(Heat(title, variants, rows))
    return heats


def _warm(line: Line | None, column: str) -> tuple[Figure, Entry] | None:
    figure = line.figure(column) if line else None
    return (figure, read(figure, column)) if figure else None


def _facts(bench: Bench, groups: Sequence[Group]) -> dict[str, Any]:
    """What made the cells: of the first finished one, and the time of all."""
    keys = [key for group in groups for line in group.lines for key in line.keys.values()]
    if not keys:
        return {}
    runs = [RunDir(bench.path / "cells" / key) for key in dict.fromkeys(keys)]
    facts = runs[0].read_json(runs[0].provenance)
    names = ("mld", "python", "torch", "platform", "processor", "device", "precision", "threads")
    seconds = sum(
        run.stage_seconds(stage) for run in runs for stage in STAGE_NAMES if run.is_complete(stage)
    )
    return {**{name: facts[name] for name in names if name in facts}, "seconds": seconds}
