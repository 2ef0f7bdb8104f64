"""`mld store`: what trainings and runs have left for later ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld.commands.common import AsJson, command, weight_store

if TYPE_CHECKING:
    from mld.data.store_contents import StoredEntry

BYTES_PER_GB = 1e9


@command
def list_(as_json: AsJson = False) -> None:
    """List the stored weights and items with their size and the day of their last use."""
    from mld.data.store_contents import stored_entries

    store = weight_store()
    entries = stored_entries(store)
    _print(entries, as_json)
    typer.echo(f"{_amount(entries)} in {store.root}", err=True)


@command
def prune(
    older_than: Annotated[
        float, typer.Option(min=0, help="Delete what has not been used for so many days.")
    ] = 30.0,
    keep: Annotated[
        float | None,
        typer.Option(min=0, help="Keep at most so many GB, of what was used last."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete stored weights and items that are not used any more; runs do not need them.

    A run directory is complete without the store; what a new run needs is trained or read again.
    What a process uses now stays.
    """
    from mld.data.store_contents import stored_entries, to_prune

    store = weight_store()
    keep_bytes = None if keep is None else int(keep * BYTES_PER_GB)
    pruned = to_prune(stored_entries(store), older_than, keep_bytes)
    deleted = pruned if dry_run else [entry for entry in pruned if entry.delete()]
    _print(deleted, as_json)
    in_use = len(pruned) - len(deleted)
    note = f"; {in_use} in use" if in_use else ""
    action = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{_amount(deleted)} {action} in {store.root}{note}", err=True)


def _print(entries: Sequence[StoredEntry], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_as_dict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        typer.echo(f"{_day(entry)}  {entry.size / 1e6:10,.1f} MB  {entry.kind:7}  {entry.content}")


def _as_dict(entry: StoredEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "content": entry.content,
        "path": str(entry.files[0]),
        "bytes": entry.size,
        "last_used": _day(entry),
    }


def _day(entry: StoredEntry) -> str:
    return datetime.fromtimestamp(entry.used_at, UTC).date().isoformat()


def _amount(entries: Sequence[StoredEntry]) -> str:
    size = sum(entry.size for entry in entries) / BYTES_PER_GB
    count = "1 entry" if len(entries) == 1 else f"{len(entries):,} entries"
    return f"{count}, {size:,.2f} GB"
