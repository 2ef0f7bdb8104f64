"""`mld modalities`, `mld datasets`, `mld methods` and `mld trackers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mld.commands.common import AsJson, command
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from mld_core import Entry, Registry

Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with code 4 if any plugin is broken; for CI.")
]


@command
def modalities(context: typer.Context, as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed modalities, and why a plugin cannot be used."""
    _list(context.obj.registry(), "modality", as_json, strict)


@command
def datasets(context: typer.Context, as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed datasets, and why a plugin cannot be used."""
    _list(context.obj.registry(), "dataset", as_json, strict)


@command
def methods(context: typer.Context, as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed methods besides mld's own, and why a plugin cannot be used."""
    _list(context.obj.registry(), "method", as_json, strict)


@command
def trackers(context: typer.Context, as_json: AsJson = False, strict: Strict = False) -> None:
    """List the installed trackers, and why a plugin cannot be used."""
    _list(context.obj.registry(), "tracker", as_json, strict)


def _list(registry: Registry, role: str, as_json: bool, strict: bool) -> None:
    """Print the plugins of a role, and those that cannot be used: their role is not known."""
    unusable = ("blocked", "not installed", "broken")
    entries = [entry for entry in registry.entries() if entry.role in (role, *unusable)]
    if as_json:
        typer.echo(json.dumps([_as_dict(entry) for entry in entries], indent=1))
    else:
        width = max((len(entry.kind) for entry in entries), default=0)
        role_width = max((len(entry.role) for entry in entries), default=0)
        for entry in entries:
            distribution = f"{entry.distribution} {entry.version}"
            typer.echo(
                f"{entry.kind:{width}}  {entry.role:{role_width}}  {distribution}  {entry.summary}"
            )
    for message in registry.damaged():
        typer.echo(f"warning: {message}", err=True)
    broken = [entry.kind for entry in entries if entry.role == "broken"]
    if strict and broken:
        typer.echo(f"error: broken: {', '.join(broken)}", err=True)
        raise typer.Exit(ExitCode.PLUGIN)


def _as_dict(entry: Entry) -> dict[str, str]:
    fields = ("kind", "distribution", "version", "module", "stage", "problem", "role", "summary")
    return {field: str(getattr(entry, field)) for field in fields}
