"""`mld check`."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Optional, TextIO

import typer

from mld.commands.common import AsJson, command, parse_pairs
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld.conformance import Record


@command
def check(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="an installed modality or dataset")],
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations on Python 3.11)
        typer.Option("--set", metavar="A=B", help="A setting of the plugin; may be repeated."),
    ] = None,
    with_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--with",
            metavar="[NAME=]KIND",
            help="The modality to combine it with; for a dataset, the modality of a column; "
            "may be repeated.",
        ),
    ] = None,
    xfail: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="CHECK=REASON", help="An expected failure; may be repeated."),
    ] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Train a joint model too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a plugin fulfils its contract; exit 8 if a check fails."""
    from mld.config.yaml_document import Document
    from mld.conformance import check_dataset, check_modality, counted

    settings = Document.parse_overrides(set_ or [])
    expected_failures = parse_pairs(xfail, "--xfail", "CHECK=REASON")
    partners = [text.rpartition("=") for text in with_ or []]
    registry = context.obj.registry()
    on_record = None if as_json else partial(_print_record, sys.stdout)
    # What a plugin prints is not a result.
    with contextlib.redirect_stdout(sys.stderr):
        if kind in registry.kinds and registry.entry(kind).role == "dataset":
            columns = {name or partner: partner for name, _, partner in partners}
            records = check_dataset(kind, settings, columns, expected_failures, registry, on_record)
        else:
            if len(partners) > 1 or any(name for name, _, _ in partners):
                raise typer.BadParameter("a modality is combined --with one KIND")
            partner = partners[0][2] if partners else None
            records = check_modality(
                kind, settings, slow, partner, expected_failures, registry, on_record
            )
    counts = counted(records)
    if as_json:
        result = {"kind": kind, **counts, "checks": [asdict(record) for record in records]}
        typer.echo(json.dumps(result, indent=1))
    else:
        run, *others = (f"{count} {status}" for status, count in counts.items())
        typer.echo(f"{kind}: {run}: {', '.join(others)}")
    if any(record.failed for record in records):
        raise typer.Exit(ExitCode.PARTIAL)


def _print_record(out: TextIO, record: Record) -> None:
    """Print one check's line as soon as its result is known."""
    line = f"{record.check:36} {record.status:15} {record.seconds:6.2f} s  {record.reason}"
    print(line.rstrip(), file=out, flush=True)
