"""The end of a suite: its figures as Markdown, CSV and one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from mld import artefact
from mld.bench.cells import Bench, Cell
from mld.bench.plots import Series, scatter_chart
from mld.bench.results import Figure, Line, lines_of, write_csv
from mld.bench.suite import SuiteSpec
from mld.pages import environment, number

MAIN = ("joint_coherence", "conditional_coherence", "joint_frechet", "conditional_frechet")
COSTS = ("nfe", "seconds_per_sample", "training_seconds", "parameters")
CEILINGS = ("joint_ceiling",)
TITLES = {
    "joint_coherence": "joint coherence",
    "conditional_coherence": "conditional coherence",
    "joint_frechet": "Frechet, joint",
    "conditional_frechet": "Frechet, conditional",
    "nfe": "NFE",
    "seconds_per_sample": "seconds a sample",
    "training_seconds": "seconds of training",
    "parameters": "parameters",
    "joint_ceiling": "ceiling",
}
ONE_TO_ONE = 12
"""At most as many one-to-one directions have columns of their own."""


@dataclass(frozen=True)
class Entry:
    """One figure of a table: as read, whether it is the best beyond doubt, and a lesser note."""

    told: str
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The variants of one set of modalities beside each other."""

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry]]]


def write_leaderboard(bench: Bench, told: SuiteSpec, cells: Sequence[Cell]) -> list[Path]:
    """leaderboard.md, .csv and .html in the suite's folder; the paths written."""
    lines = lines_of(bench, cells)
    broken = [cell for cell in cells if bench.state(cell) == "failed"]
    failed = [(str(cell.at), bench.failure(cell)) for cell in broken]
    tables = [*tables_of(told, lines), *difference_tables(told, lines)]
    seeds = sorted({cell.at.seed for cell in cells})
    lede = (
        f"{len(lines)} variants in {sum(len(line.rows) for line in lines)} of {len(cells)} cells, "
        f"over {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}."
    )
    write_csv(bench.results, lines)
    page = environment().get_template("bench/leaderboard.html.j2")
    texts = {
        "leaderboard.md": markdown(told.name, lede, tables, failed),
        "leaderboard.html": page.render(
            title=told.name,
            lede=lede,
            tables=tables,
            failed=failed,
            plots=_plots(lines),
            published=told.published,
            titles=TITLES,
        ),
    }
    for name, text in texts.items():
        with artefact.written(bench.path / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [bench.results, *(bench.path / name for name in texts)]


def tables_of(told: SuiteSpec, lines: Sequence[Line]) -> list[Table]:
    """A table for each set of modalities: mean and standard deviation over seeds."""
    tables = []
    for names, group in groupby(lines, key=lambda line: line.modalities):
        own = list(group)
        columns = [*MAIN, *_one_to_one(own), *CEILINGS, *COSTS]
        columns = [column for column in columns if any(line.figure(column) for line in own)]
        best = {column: _best(own, column) for column in columns}
        rows = [
            (line.variant, [_entry(line, column, best[column]) for column in columns])
            for line in own
        ]
        rows += [
            (f"{method} (published)", [_published(told, method, column) for column in columns])
            for method in dict.fromkeys(item.method for item in told.published)
            if set(names) == set(lines[0].modalities)
        ]
        heads = [TITLES.get(column, column.replace(">", " → ")) for column in columns]
        tables.append(Table(" + ".join(names), heads, rows))
    return tables


def difference_tables(told: SuiteSpec, lines: Sequence[Line]) -> list[Table]:
    """Every variant less the first, paired by seed, with 95 % intervals where seeds allow."""
    tables = []
    for names, group in groupby(lines, key=lambda line: line.modalities):
        first, *others = list(group)
        columns = [column for column in MAIN if first.figure(column)]
        if not others or not columns:
            continue
        rows = []
        for line in others:
            figures = [line.less(first, column) for column in columns]
            rows.append((line.variant, [_difference(figure) for figure in figures]))
        heads = [TITLES[column] for column in columns]
        title = f"{' + '.join(names)}: less {first.variant}"
        tables.append(Table(title, heads, rows))
    return tables


def _one_to_one(lines: Sequence[Line]) -> list[str]:
    columns = dict.fromkeys(
        column
        for line in lines
        for row in line.rows.values()
        for column in row
        if column.endswith(" coherence") and "+" not in column
    )
    return list(columns) if len(columns) <= ONE_TO_ONE else []


def _best(lines: Sequence[Line], column: str) -> Line | None:
    """The line that leads a column beyond its interval and those of the others; None if none."""
    if column in (*COSTS, *CEILINGS):
        return None
    found = [(line, figure) for line in lines if (figure := line.figure(column))]
    sign = -1 if column.endswith("frechet") else 1
    ranked = sorted(found, key=lambda pair: -sign * pair[1].value)
    if len(ranked) < 2:
        return None
    (leader, own), (_, next_best) = ranked[0], ranked[1]
    if None in (own.low, own.high, next_best.low, next_best.high):
        return None
    worst, rival = (own.low, next_best.high) if sign > 0 else (own.high, next_best.low)
    assert worst is not None
    assert rival is not None
    return leader if sign * (worst - rival) > 0 else None


def _entry(line: Line, column: str, best: Line | None) -> Entry:
    figure = line.figure(column)
    return Entry("–") if figure is None else Entry(*_read(figure, column, line is best))


def _read(figure: Figure, column: str, best: bool) -> tuple[str, bool, str]:
    share = "coherence" in column or "ceiling" in column
    told = f"{figure.value:.3f}" if share else number(_rounded(figure.value))
    if figure.spread is not None:
        note = f"± {figure.spread:.3f}" if share else f"± {number(_rounded(figure.spread))}"
    elif figure.low is not None and figure.high is not None:
        note = f"{figure.low:.3f}–{figure.high:.3f}"
    else:
        note = ""
    return told, best, note


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 1000 else value


def _difference(figure: Figure | None) -> Entry:
    if figure is None:
        return Entry("–")
    told = f"{figure.value:+.3f}".replace("-", "−")
    if figure.low is None or figure.high is None:
        return Entry(told, note="one seed")
    note = f"{figure.low:+.3f} to {figure.high:+.3f}".replace("-", "−")
    return Entry(told, figure.low > 0 or figure.high < 0, note)


def _published(told: SuiteSpec, method: str, column: str) -> Entry:
    for item in told.published:
        if (item.method, item.metric) == (method, column):
            return Entry(number(item.value), note=item.source)
    return Entry("–")


def markdown(
    title: str, lede: str, tables: Sequence[Table], failed: Sequence[tuple[str, str]]
) -> str:
    """The tables for a page in a repository."""
    parts = [f"# {title}", lede]
    for table in tables:
        rows = [["", *table.heads], ["---"] * (len(table.heads) + 1)]
        rows += [
            [name, *(_in_markdown(entry) for entry in entries)] for name, entries in table.rows
        ]
        parts += [f"## {table.title}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    if failed:
        parts += ["## Failed", "\n".join(f"- {at}: {reason}" for at, reason in failed)]
    return "\n\n".join(parts) + "\n"


def _in_markdown(entry: Entry) -> str:
    told = f"**{entry.told}**" if entry.best else entry.told
    return f"{told} ({entry.note})" if entry.note else told


def _plots(lines: Sequence[Line]) -> list[tuple[str, Markup]]:
    """Coherence against Frechet distance, and against NFE, for each set of modalities."""
    plots = []
    for names, group in groupby(lines, key=lambda line: line.modalities):
        own = list(group)
        for kind in ("joint", "conditional"):
            title = f"{' + '.join(names)}, {kind}"
            x, y = f"{kind}_frechet", f"{kind}_coherence"
            chart = scatter_chart(_series(own, x, y), "Frechet distance", f"{kind} coherence")
            plots.append((title, chart))
        costs = {line.figure("nfe").value for line in own if line.figure("nfe")}  # type: ignore[union-attr]
        if len(costs) > 1:
            chart = scatter_chart(
                _series(own, "nfe", "joint_coherence"), "network evaluations", "joint coherence"
            )
            plots.append((f"{' + '.join(names)}, cost", chart))
    return [(title, chart) for title, chart in plots if chart]


def _series(lines: Sequence[Line], x: str, y: str) -> list[Series]:
    """Points by method; a method with several variants is a line through them."""
    series: dict[str, list[tuple[float, float, str]]] = {}
    for line in lines:
        across, up = line.figure(x), line.figure(y)
        if across and up:
            points = series.setdefault(line.at.method, [])
            points.append((across.value, up.value, line.variant))
    return [Series(method, points) for method, points in series.items()]


__all__ = ["Entry", "Table", "markdown", "tables_of", "write_leaderboard"]
