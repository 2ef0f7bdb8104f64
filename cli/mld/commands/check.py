"""`mld check`."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Optional, TextIO

import typer

from mld.commands.common import AsJson, command
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld.conformance import Record


@command
def check(
    kind: Annotated[str, typer.Argument(help="an installed modality or dataset")],
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="A=B", help="A setting to check it with; may be repeated."),
    ] = None,
    with_: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--with",
            metavar="[NAME=]KIND",
            help="The modality to pair it with; a dataset's columns, may be repeated.",
        ),
    ] = None,
    known: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="CHECK=REASON", help="A known failure; may be repeated."),
    ] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Train a joint model too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a plugin keeps every promise of its contract; exit 8 if it does not."""
    from mld.config.yaml_document import Document
    from mld.conformance import check_dataset, check_modality, counted
    from mld_core import Registry

    settings = Document.assigned(set_ or [])
    failures = dict(_sides(told, "--known", "CHECK=REASON") for told in known or [])
    partners = [told.rpartition("=") for told in with_ or []]
    registry = Registry()
    tell = None if as_json else partial(_tell, sys.stdout)
    # What a plugin prints is no result.
    with contextlib.redirect_stdout(sys.stderr):
        if kind in registry.kinds and registry.entry(kind).role == "dataset":
            named = {name or own: own for name, _, own in partners}
            records = check_dataset(kind, settings, named, failures, registry, tell)
        else:
            if len(partners) > 1 or any(name for name, _, _ in partners):
                raise typer.BadParameter("a modality is paired --with one KIND")
            partner = partners[0][2] if partners else None
            records = check_modality(kind, settings, slow, partner, failures, registry, tell)
    counts = counted(records)
    if as_json:
        told = {"kind": kind, **counts, "checks": [asdict(record) for record in records]}
        typer.echo(json.dumps(told, indent=1))
    else:
        run, *others = (f"{count} {status}" for status, count in counts.items())
        typer.echo(f"{kind}: {run}: {', '.join(others)}")
    if any(record.failed for record in records):
        raise typer.Exit(ExitCode.PARTIAL)


def _sides(told: str, option: str, form: str) -> tuple[str, str]:
    name, _, value = told.partition("=")
    if not (name and value):
        raise typer.BadParameter(f"{option} wants {form}, not {told!r}")
    return name, value


def _tell(out: TextIO, record: Record) -> None:
    """One line, as soon as it is known."""
    line = f"{record.check:36} {record.status:15} {record.seconds:6.2f} s  {record.reason}"
    print(line.rstrip(), file=out, flush=True)
