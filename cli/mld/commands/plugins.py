"""`mld modalities`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from mld.commands.telling import AsJson, command

if TYPE_CHECKING:
    from mld_core import Entry


@command
def modalities(as_json: AsJson = False) -> None:
    """List the installed plugins, and what is wrong with those that cannot be used."""
    from mld_core import Registry

    entries = Registry().entries()
    if as_json:
        typer.echo(json.dumps([_entry(entry) for entry in entries], indent=1))
        return
    width = max((len(entry.kind) for entry in entries), default=0)
    for entry in entries:
        told = f"{entry.distribution} {entry.version}"
        typer.echo(f"{entry.kind:{width}}  {entry.role:8}  {told}  {entry.summary}")


def _entry(entry: Entry) -> dict[str, str]:
    told = {key: str(value) for key, value in vars(entry).items() if key != "provides"}
    return {**told, "role": entry.role, "summary": entry.summary}
