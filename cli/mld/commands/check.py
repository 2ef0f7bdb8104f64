"""`mld check`."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from mld.commands.common import AsJson, Texts, command, parse_pairs, repeatable
from mld.commands.completion import complete_kind
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld.conformance import CheckResult


@command
def check(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Argument(
            help="an installed modality, dataset or method",
            show_default=False,
            autocompletion=complete_kind,
        ),
    ] = None,
    set_: Annotated[Texts, repeatable("A=B", "A setting of the plugin", "--set")] = None,
    with_: Annotated[
        Texts,
        repeatable(
            "[NAME=]KIND",
            "The modality to combine it with; for a dataset, the modality of a column",
            "--with",
            complete=complete_kind,
        ),
    ] = None,
    xfail: Annotated[Texts, repeatable("CHECK=REASON", "An expected failure")] = None,
    slow: Annotated[bool, typer.Option("--slow", help="Train a joint model too.")] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="Print what each check requires, and run none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a plugin fulfils its contract; exit 8 if a check fails."""
    from mld.config.yaml_document import Document
    from mld.conformance import check_dataset, check_method, check_modality, count_statuses

    if list_:
        _list_checks(as_json)
        return
    if kind is None:
        raise typer.BadParameter("give the KIND to check, or --list")
    settings = Document.parse_overrides(set_ or [])
    expected_failures = parse_pairs(xfail, "--xfail", "CHECK=REASON")
    partners = [text.rpartition("=") for text in with_ or []]
    registry = context.obj.registry()
    on_result = None if as_json else partial(_print_result, sys.stdout)
    # What a plugin prints is not a result.
    with contextlib.redirect_stdout(sys.stderr):
        role = registry.usable(kind).role
        if role == "dataset":
            columns = {name or partner: partner for name, _, partner in partners}
            results = check_dataset(kind, settings, columns, expected_failures, registry, on_result)
        elif role == "method":
            if partners:
                raise typer.BadParameter("a method is checked on modalities of the kit: no --with")
            results = check_method(kind, settings, expected_failures, registry, on_result)
        elif role == "tracker":
            raise typer.BadParameter(f"{kind} is a tracker, for which there are no checks")
        else:
            if len(partners) > 1 or any(name for name, _, _ in partners):
                raise typer.BadParameter("a modality is combined --with one KIND")
            partner = partners[0][2] if partners else None
            results = check_modality(
                kind, settings, slow, partner, expected_failures, registry, on_result
            )
    counts = count_statuses(results)
    if as_json:
        report = {"kind": kind, **counts, "checks": [asdict(result) for result in results]}
        typer.echo(json.dumps(report, indent=1))
    else:
        run, *others = (f"{count} {status}" for status, count in counts.items())
        typer.echo(f"{kind}: {run}: {', '.join(others)}")
    if any(result.failed for result in results):
        raise typer.Exit(ExitCode.PARTIAL)


def _print_result(out: TextIO, result: CheckResult) -> None:
    """Print one check's line as soon as its result is known."""
    line = f"{result.check:36} {result.status:15} {result.seconds:6.2f} s  {result.reason}"
    print(line.rstrip(), file=out, flush=True)


def _list_checks(as_json: bool) -> None:
    """Print every check with its roles and what it requires, as a Markdown table or as JSON."""
    from mld.conformance import all_checks, checks_as_markdown

    if as_json:
        fields = ("name", "roles", "slow", "description")
        checks = [{field: getattr(check, field) for field in fields} for check in all_checks()]
        typer.echo(json.dumps(checks, indent=1))
    else:
        typer.echo(checks_as_markdown())
