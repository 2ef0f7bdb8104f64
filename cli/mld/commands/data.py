"""`mld data check`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mld.commands.common import AsJson, Texts, command, repeatable, weight_store
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld.config.spec import Spec
    from mld.data.statistics import ColumnStatistics, Quantity, Words
    from mld.data.table_statistics import TableColumn
    from mld.pipeline.data_check import DataCheck
    from mld_core import Registry

MANIFEST = "manifest"
"""The dataset that reads tables."""
MAX_PATTERNS = 10
MAX_CLASSES = 20


@command
def check(
    context: typer.Context,
    manifest: Annotated[
        Path | None,
        typer.Argument(help="a .csv, .tsv or .jsonl file (default: the spec's data)"),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="Read the table through the modalities of this spec.")
    ] = None,
    set_: Annotated[Texts, repeatable("A.B=C", "Override a setting of the spec", "--set")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at all rows of a table: lengths, gaps, repetitions, splits; exit 5 if a run would fail.

    Without --spec, only what a table tells by itself.
    """
    if spec is None:
        if manifest is None or set_:
            raise typer.BadParameter("give a MANIFEST, or --spec (which --set needs)")
        _check_table(manifest, as_json)
        return
    from mld.pipeline.data_check import check_data

    registry = context.obj.registry()
    settings = _spec_of(spec, manifest, set_ or [], registry)
    result = check_data(settings, registry, weight_store())
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=1))
    else:
        for line in _lines(result):
            typer.echo(line)
    for message in result.warnings:
        typer.echo(f"warning: {message}", err=True)
    for message in result.errors:
        typer.echo(f"error: {message}", err=True)
    if result.errors:
        raise typer.Exit(ExitCode.DATA)


def _spec_of(path: Path, manifest: Path | None, overrides: list[str], registry: Registry) -> Spec:
    """The spec, with a manifest in place of its own data."""
    from mld.config.spec import load_spec

    spec = load_spec(path, registry, overrides)
    if manifest is None:
        return spec
    table = json.dumps(str(manifest.resolve()))
    is_table = spec.data.kind == MANIFEST
    data = f"data.path={table}" if is_table else f"data={{kind: {MANIFEST}, path: {table}}}"
    return load_spec(path, registry, [*overrides, data])


def _check_table(path: Path, as_json: bool) -> None:
    """Print what a table tells by itself."""
    from mld.data.table_statistics import repeated_table_rows, table_columns
    from mld_core import raise_line_errors, read_table

    table = read_table(path)
    raise_line_errors(path, table.errors)
    columns, repeated = table_columns(table), repeated_table_rows(table)
    if as_json:
        record = {
            "rows": len(table.rows),
            "separator": table.separator,
            "columns": {name: asdict(column) for name, column in columns.items()},
            "repeated": repeated,
        }
        typer.echo(json.dumps(record, indent=1))
        return
    typer.echo(f"{len(table.rows):,} rows, {repeated:,} of them equal to an earlier one")
    for line in _table_lines(columns):
        typer.echo(line)
    typer.echo("with --spec SPEC, the modalities read them, too", err=True)


def _table_lines(columns: Mapping[str, TableColumn]) -> Iterator[str]:
    width = max(map(len, columns))
    for name, column in columns.items():
        example = f", such as {column.example!r:.40}" if column.example else ""
        yield (
            f"{name:{width}}  {column.recorded:>9,} recorded  {column.distinct:>9,} different  "
            f"{column.looks_like}{example}"
        )


def _lines(check: DataCheck) -> Iterator[str]:
    yield f"rows: {_counts(check.rows)}; {check.repeated:,} equal to an earlier one"
    for name, column in check.columns.items():
        yield ""
        yield from _column_lines(name, column)
    yield ""
    yield "rows by what they have:"
    patterns = [*check.patterns.items()]
    for pattern, count in patterns[:MAX_PATTERNS]:
        yield f"  {count:>9,}  {pattern}"
    if len(patterns) > MAX_PATTERNS:
        rest = sum(count for _, count in patterns[MAX_PATTERNS:])
        yield f"  {rest:>9,}  {len(patterns) - MAX_PATTERNS} other patterns"
    if check.classes:
        yield ""
        yield "rows by class:"
        by_size = sorted(check.classes.items(), key=lambda item: -sum(item[1].values()))
        for label, counts in by_size[:MAX_CLASSES]:
            yield f"  {sum(counts.values()):>9,}  {label} ({_counts(counts)})"
        if len(by_size) > MAX_CLASSES:
            yield f"             {len(by_size) - MAX_CLASSES} more classes"


def _column_lines(name: str, column: ColumnStatistics) -> Iterator[str]:
    yield f"{name} ({column.kind})"
    invalid = f", {column.invalid:,} cannot be used" if column.invalid else ""
    yield f"  recorded: {_counts(column.recorded)}{invalid}; {column.distinct:,} different"
    for what, quantity in column.quantities.items():
        yield f"  {what}: {_range(quantity)}"
    for what, words in column.words.items():
        yield f"  {what}: {_listed(words)}"
    if any(column.leaked.values()):
        yield f"  equal to a training item: {_counts(column.leaked)}"
    if column.same_key:
        yield f"  split key of a training item: {_counts(column.same_key)}"


def _range(quantity: Quantity) -> str:
    return (
        f"{quantity.minimum:g} to {quantity.maximum:g}, median {quantity.median:g}, "
        f"95 % at most {quantity.percent_95:g}"
    )


def _listed(words: Words) -> str:
    if not words.count:
        return "none"
    frequent = ", ".join(f"{word} {count:,}" for word, count in words.frequent.items())
    rare = f"; once: {', '.join(words.rare)}" if words.rare else ""
    return f"{words.count:,} different: {frequent}{rare}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
