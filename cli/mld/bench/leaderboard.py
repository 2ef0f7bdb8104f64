"""Writes the leaderboard of a suite: Markdown, CSV and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mld.bench import tables
from mld.bench.aggregate import VariantResult, variant_results, write_csv
from mld.bench.html import leaderboard_page
from mld.bench.suite import SuiteSpec
from mld.bench.suite_dir import Failures, SuiteDir
from mld.bench.tables import FormattedValue, Group, Table
from mld.bench.trials import Trial, unique_runs
from mld.storage.files import write_text


def write_leaderboard(
    suite_dir: SuiteDir, spec: SuiteSpec, trials: Sequence[Trial], command: str
) -> list[Path]:
    """Write leaderboard.csv, .md and .html into the suite's folder, and return their paths.

    `command` is the command line that the page shows for reproduction.
    """
    results = variant_results(suite_dir, trials)
    groups = tables.group_results(spec, results)
    summary = _summary(suite_dir, trials) + _other_split(results)
    failures = suite_dir.failures(trials)
    write_csv(suite_dir.results, results)
    texts = {
        "leaderboard.md": _markdown(spec.name, summary, groups, failures),
        "leaderboard.html": leaderboard_page(spec, summary, groups, failures, command),
    }
    for name, text in texts.items():
        write_text(suite_dir.path / name, text)
    return [suite_dir.results, *(suite_dir.path / name for name in texts)]


def _summary(suite_dir: SuiteDir, trials: Sequence[Trial]) -> str:
    states = [suite_dir.state(trial) for trial in unique_runs(trials)]
    coordinates = [trial.coordinates for trial in trials]
    seeds = sorted({position.seed for position in coordinates})
    variants = len({position.variant for position in coordinates})
    sets = len({position.modalities for position in coordinates})
    parts = [
        f"{variants} variant{'s' if variants > 1 else ''}",
        f"{sets} set{'s' if sets > 1 else ''} of modalities",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
    ]
    failed = f", {states.count('failed')} failed" if "failed" in states else ""
    progress = f"{states.count('done')} of {len(states)} trials are done{failed}."
    return f"{', '.join(parts)}: {progress}"


def _other_split(results: Sequence[VariantResult]) -> str:
    """Which variants were evaluated on validation rows; "" if none was."""
    variants = dict.fromkeys(each.variant for each in results if each.split == "validation")
    if not variants:
        return ""
    everywhere = all(each.split == "validation" for each in results)
    of = "" if everywhere else f" of {', '.join(variants)}"
    return f" Samples{of} are conditioned on and evaluated against validation rows."


def _markdown(title: str, summary: str, groups: Sequence[Group], failures: Failures) -> str:
    parts = [f"# {title}", summary]
    if groups:
        parts.append(tables.CAPTION)
    for group in groups:
        parts += _table_in_markdown(tables.main_table(group), "##")
        parts += _table_in_markdown(tables.one_to_one_table(group), "###")
        parts += _table_in_markdown(tables.one_to_one_retrieval_table(group), "###")
        parts += _table_in_markdown(tables.one_to_one_truth_table(group), "###")
    differences = [tables.overall_table(groups), *map(tables.difference_table, groups)]
    if any(table.rows for table in differences):
        parts += ["## Differences", tables.DIFFERENCES_CAPTION]
    for table in differences:
        parts += _table_in_markdown(table, "###")
    if failures:
        parts += ["## Failed", "\n".join(f"- {who}: {reason}" for who, reason in failures)]
    return "\n\n".join(parts) + "\n"


def _table_in_markdown(table: Table, heading: str) -> list[str]:
    """A heading and a table; nothing for an empty table."""
    if not table.rows:
        return []
    rows = [["", *table.headers], ["---", *["---:"] * len(table.headers)]]
    rows += [[row.name, *map(_value_in_markdown, row.values)] for row in table.rows]
    escaped = [[text.replace("|", "\\|") for text in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return [f"{heading} {table.title}", "\n".join(lines)]


def _value_in_markdown(value: FormattedValue) -> str:
    text = f"**{value.text}**" if value.best else value.text
    return f"{text} ({value.note})" if value.note else text
