"""The end of a suite: its figures as Markdown, CSV and one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mld.bench.aggregate import lines_of, write_csv
from mld.bench.cells import Bench, Cell, distinct
from mld.bench.html import page_of
from mld.bench.suite import SuiteSpec
from mld.bench.tables import (
    COMPARING,
    READING,
    Entry,
    Group,
    Table,
    difference_table,
    groups_of,
    main_table,
    one_to_one_table,
    overall_table,
)
from mld.storage import files


def write_leaderboard(bench: Bench, told: SuiteSpec, cells: Sequence[Cell]) -> list[Path]:
    """leaderboard.md, .csv and .html in the suite's folder; the paths written."""
    lines = lines_of(bench, cells)
    groups = groups_of(told, lines)
    lede = _lede(bench, cells)
    failed = bench.failures(cells)
    write_csv(bench.results, lines)
    texts = {
        "leaderboard.md": markdown(told.name, lede, groups, failed),
        "leaderboard.html": page_of(bench, told, lede, groups, failed),
    }
    for name, text in texts.items():
        with files.atomic_write(bench.path / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [bench.results, *(bench.path / name for name in texts)]


def _lede(bench: Bench, cells: Sequence[Cell]) -> str:
    """How much of the suite there is."""
    states = [bench.state(cell) for cell in distinct(cells)]
    seeds = sorted({cell.at.seed for cell in cells})
    variants = len({cell.at.variant for cell in cells})
    sets = len({cell.at.modalities for cell in cells})
    told = [
        f"{variants} variant{'s' if variants > 1 else ''}",
        f"{sets} set{'s' if sets > 1 else ''} of modalities",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
    ]
    lede = f"{', '.join(told)}: {states.count('done')} of {len(states)} cells are done"
    failed = states.count("failed")
    return f"{lede}, {failed} failed." if failed else f"{lede}."


def markdown(
    title: str, lede: str, groups: Sequence[Group], failed: Sequence[tuple[str, str]]
) -> str:
    """The tables for a page in a repository."""
    parts = [f"# {title}", lede]
    if groups:
        parts.append(READING)
    for group in groups:
        parts += _in_markdown(main_table(group), "##")
        parts += _in_markdown(one_to_one_table(group), "###")
    differences = [overall_table(groups), *map(difference_table, groups)]
    if any(table.rows for table in differences):
        parts += ["## Differences", COMPARING]
    for table in differences:
        parts += _in_markdown(table, "###")
    if failed:
        parts += ["## Failed", "\n".join(f"- {who}: {reason}" for who, reason in failed)]
    return "\n\n".join(parts) + "\n"


def _in_markdown(table: Table, heading: str) -> list[str]:
    """A heading and a table; nothing of an empty one."""
    if not table.rows:
        return []
    rows = [["", *table.heads], ["---", *["---:"] * len(table.heads)]]
    rows += [[row.name, *map(_cell, row.entries)] for row in table.rows]
    lines = (f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)
    return [f"{heading} {table.title}", "\n".join(lines)]


def _cell(entry: Entry) -> str:
    told = f"**{entry.told}**" if entry.best else entry.told
    return f"{told} ({entry.note})" if entry.note else told


def _escaped(told: str) -> str:
    return told.replace("|", "\\|")
