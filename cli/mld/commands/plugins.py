"""`mld modalities`, `mld datasets`, `mld methods` and `mld new-modality`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mld.commands.common import AsJson, command
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld_core import Entry

Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 4 if any plugin is broken: for CI.")
]


@command
def modalities(as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed modalities, and what is wrong with plugins that cannot be used."""
    _list("modality", as_json, strict)


@command
def datasets(as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed datasets, and what is wrong with plugins that cannot be used."""
    _list("dataset", as_json, strict)


@command
def methods(as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed rivals to mld's own method, and what is wrong with plugins."""
    _list("method", as_json, strict)


@command
def new_modality(
    name: Annotated[str, typer.Argument(help="the new kind, such as spectrum")],
    into: Annotated[Path, typer.Option(help="Where the new folder mld-NAME goes.")] = Path(),
) -> None:
    """Write a modality of your own: a package that works as it stands, to be edited."""
    from mld.scaffold.new_modality import write_distribution
    from mld_core import Registry

    try:
        folder = write_distribution(name, into, Registry())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except FileExistsError as error:
        told = f"{error.filename} is already there, and nothing is overwritten"
        raise typer.BadParameter(told) from None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from None
    typer.echo(folder)
    typer.echo(f"next: pip install --editable '{folder}[dev]', then mld check {name}", err=True)


def _list(role: str, as_json: bool, strict: bool) -> None:
    """The plugins of a role, and those whose role is unknown because they cannot be used."""
    from mld_core import Registry

    shown = [entry for entry in Registry().entries() if entry.role in (role, "broken", "blocked")]
    if as_json:
        typer.echo(json.dumps([_told(entry) for entry in shown], indent=1))
    else:
        width = max((len(entry.kind) for entry in shown), default=0)
        for entry in shown:
            home = f"{entry.distribution} {entry.version}"
            typer.echo(f"{entry.kind:{width}}  {entry.role:8}  {home}  {entry.summary}")
    broken = [entry.kind for entry in shown if entry.role == "broken"]
    if strict and broken:
        typer.echo(f"error: broken: {', '.join(broken)}", err=True)
        raise typer.Exit(ExitCode.PLUGIN)


def _told(entry: Entry) -> dict[str, str]:
    told = {key: str(value) for key, value in vars(entry).items() if key != "provides"}
    return {**told, "role": entry.role, "summary": entry.summary}
