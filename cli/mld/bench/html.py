"""The leaderboard as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mld.bench import tables
from mld.bench.aggregate import Figure, VariantResult
from mld.bench.charts import chart_measure, group_charts, legend
from mld.bench.retrieval_columns import RETRIEVAL_TITLES, is_retrieval, limit_column
from mld.bench.suite import SuiteSpec
from mld.bench.suite_dir import Failures
from mld.bench.tables import FormattedValue, Group, format_figure
from mld.config.yaml_document import dump_yaml
from mld.reporting.charts import Dot
from mld.reporting.html import MACHINE_FACTS, environment
from mld.reporting.number_format import format_number
from mld.reporting.truth_metrics import main_metrics
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES

MAX_DRAWN_VARIANTS = 12
"""With more variants than this there are only tables, without dot tracks and heat maps."""

MAX_HEADLINES = 4
"""Metrics against the truth that are headlines where there is no coherence."""

_LIMIT_COLUMNS = {
    "joint_coherence": "joint_ceiling",
    "conditional_coherence": None,
    "joint_retrieval": limit_column("joint_retrieval"),
    "conditional_retrieval": limit_column("conditional_retrieval"),
}
"""Whether samples belong together: the columns that are headlines, each with that of its limit."""


@dataclass(frozen=True)
class Track:
    """One variant on a panel; `is_reference` marks a published number."""

    name: str
    dots: Sequence[Dot]
    value: FormattedValue
    is_reference: bool = False


@dataclass(frozen=True)
class Panel:
    """One metric of all variants as dots on a line from 0 to `limit`.

    `mark` is a reference value, or None; `note` says what it is.
    """

    title: str
    note: str
    limit: float
    tracks: Sequence[Track]
    mark: float | None


@dataclass(frozen=True)
class HeatMap:
    """One proportion: sets of modalities as rows, variants as columns."""

    title: str
    headers: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[Figure, FormattedValue] | None]]]


def leaderboard_page(
    spec: SuiteSpec, summary: str, groups: Sequence[Group], failures: Failures, command: str
) -> str:
    """The page's HTML.

    Args:
        summary: one sentence on how many trials are done.
        command: the command line to reproduce the page with.
    """
    metric_tables = {
        "All metrics": tables.main_table,
        "One to one": tables.one_to_one_table,
        "One to one, retrieval at 1": tables.one_to_one_retrieval_table,
        "One to one, against the truth": tables.one_to_one_truth_table,
    }
    sections = [
        {
            "group": group,
            "panels": _panels(group),
            "tables": {
                heading: table
                for heading, make in metric_tables.items()
                if (table := make(group)).rows
            },
            "differences": tables.difference_table(group),
            "charts": group_charts(spec, group),
            "measure": chart_measure(group),
            "legend": legend(spec, group),
        }
        for group in groups
    ]
    template = environment("mld.bench").get_template("leaderboard.html.j2")
    return template.render(
        title=spec.name,
        summary=summary,
        headlines=_headlines(groups),
        heat_maps=_heat_maps(groups),
        overall=tables.overall_table(groups),
        sections=sections,
        failures=failures,
        published=spec.published,
        caption=tables.CAPTION,
        differences_caption=tables.DIFFERENCES_CAPTION,
        facts=_facts(groups),
        command=command,
        suite=dump_yaml(spec.model_dump(mode="json", exclude_unset=True)),
    )


def _headlines(groups: Sequence[Group]) -> list[tuple[str, str, str]]:
    """Title, number and note of the best results on the first set and of the trials done."""
    headlines = []
    results = groups[0].results if groups else []
    titles = {column: tables.COLUMN_TITLES[column] for column in _LIMIT_COLUMNS}
    if not any(result.figure(column) for result in results for column in titles):
        metrics = main_metrics(tables.truth_metrics(results))
        titles = {metric.column: metric.full_title for metric in metrics[:MAX_HEADLINES]}
    for column, title in titles.items():
        if figures := _figures(results, column):
            sign = -1 if figures[0][0].better(column) == "lower" else 1
            result, figure = max(figures, key=lambda pair: sign * pair[1].value)
            note = f"{result.variant} on {groups[0].name}; {format_figure(figure, column).note}"
            limit = _LIMIT_COLUMNS.get(column)
            if limit and (ceiling := result.figure(limit)):
                note += f"; ceiling {ceiling.value:.3f}"
            headlines.append((f"Best {title}", format_figure(figure, column).text, note))
    sets = f"{len(groups)} sets of modalities" if len(groups) > 1 else "one set of modalities"
    headlines.append(("Trials done", format_number(len(_distinct_runs(groups))), f"on {sets}"))
    return headlines


def _figures(results: Sequence[VariantResult], column: str) -> list[tuple[VariantResult, Figure]]:
    return [(result, figure) for result in results if (figure := result.figure(column))]


def _distinct_runs(groups: Sequence[Group]) -> list[RunDir]:
    results = [result for group in groups for result in group.results]
    trials = [trial for result in results for trial in result.trials.values()]
    return list(dict.fromkeys(trial.run_dir for trial in trials))


def _panels(group: Group) -> list[Panel]:
    if not 1 < len(group.results) + len(group.published) <= MAX_DRAWN_VARIANTS:
        return []
    panels = [
        _panel(group, "joint_coherence", "Joint coherence", "ceiling", "joint_ceiling"),
        _panel(group, "conditional_coherence", "Conditional coherence, mean"),
    ]
    for column, title in RETRIEVAL_TITLES.items():
        panels.append(_panel(group, column, title, "reconstructions", limit_column(column)))
    for metric in main_metrics(tables.truth_metrics(group.results)):
        mark = "reconstructions", metric.limit_column
        panels.append(_panel(group, metric.column, metric.full_title, *mark))
    for name in group.modalities:
        mark = "reconstructions", f"{name} reconstruction_frechet"
        panels.append(_panel(group, f"joint>{name} frechet", f"Frechet distance, {name}", *mark))
    return [panel for panel in panels if panel]


def _panel(
    group: Group, column: str, title: str, mark_name: str = "", mark_column: str = ""
) -> Panel | None:
    """The panel of one metric; None if no result has it."""
    figures = _figures(group.results, column)
    if not figures:
        return None
    best = tables.significant_best(group.results, column)
    tracks = []
    for result, figure in figures:
        dot = Dot(figure.value, figure.low, figure.high)
        tracks.append(Track(result.variant, [dot], format_figure(figure, column, result is best)))
    for item in group.published:
        if item.metric == column:
            dot, value = Dot(item.value, hollow=True), tables.format_published(item)
            tracks.append(Track(item.method, [dot], value, is_reference=True))
    mark = group.results[0].figure(mark_column)
    note = f"{mark_name} {format_figure(mark, mark_column).text}" if mark else ""
    values = [dot.value for track in tracks for dot in track.dots] + [mark.value if mark else 0.0]
    is_proportion = column.endswith("coherence") or is_retrieval(column)
    limit = 1.0 if is_proportion else max(values) or 1.0
    return Panel(title, note, limit, tracks, mark.value if mark else None)


def _heat_maps(groups: Sequence[Group]) -> list[HeatMap]:
    """Coherence and retrieval on all sets of modalities side by side, if there are several."""
    variants = list(dict.fromkeys(result.variant for group in groups for result in group.results))
    if len(groups) < 2 or len(variants) > MAX_DRAWN_VARIANTS:
        return []
    heat_maps = []
    for column, title in (
        ("joint_coherence", "Joint coherence"),
        ("conditional_coherence", "Conditional coherence, mean over conditions and targets"),
        ("joint_retrieval", "Joint retrieval at 1"),
        ("conditional_retrieval", "Conditional retrieval at 1, mean over conditions and targets"),
    ):
        rows = []
        for group in groups:
            cells = {
                result.variant: (figure, format_figure(figure, column))
                for result, figure in _figures(group.results, column)
            }
            rows.append((group.name, [cells.get(variant) for variant in variants]))
        if any(cell for _, cells in rows for cell in cells):
            heat_maps.append(HeatMap(title, variants, rows))
    return heat_maps


def _facts(groups: Sequence[Group]) -> dict[str, Any]:
    """Provenance of the first finished trial, and the time of all together in seconds."""
    runs = _distinct_runs(groups)
    if not runs:
        return {}
    provenance = runs[0].read_json(runs[0].provenance)
    facts = {name: provenance[name] for name in MACHINE_FACTS if name in provenance}
    facts["seconds"] = sum(
        run.stage_seconds(stage) for run in runs for stage in STAGE_NAMES if run.is_complete(stage)
    )
    return facts
