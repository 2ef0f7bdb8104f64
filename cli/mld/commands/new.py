"""`mld new-modality`, `mld new-dataset` and `mld new-method`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mld.commands.common import command

if TYPE_CHECKING:
    from mld.scaffold.new_package import Template

Name = Annotated[str, typer.Argument(help="the new kind, such as spectrum")]
Into = Annotated[Path, typer.Option(help="The folder in which mld-NAME is created.")]


@command
def new_modality(
    context: typer.Context,
    name: Name,
    into: Into = Path(),
    inline: Annotated[
        bool, typer.Option("--inline", help="A cell of a manifest holds the datum, not a path.")
    ] = False,
) -> None:
    """Create a package with a new modality: complete and working, ready to be edited."""
    folder = _write(context, name, "inline" if inline else "modality", into)
    _print_next(folder, name)


@command
def new_dataset(context: typer.Context, name: Name, into: Into = Path()) -> None:
    """Create a package with a new dataset: complete and working, ready to be edited."""
    folder = _write(context, name, "dataset", into)
    _print_next(folder, f"{name} --set path='{folder}/measurements.csv'")


@command
def new_method(context: typer.Context, name: Name, into: Into = Path()) -> None:
    """Create a package with a new method: complete and working, ready to be edited."""
    _print_next(_write(context, name, "method", into), name)


def _write(context: typer.Context, name: str, template: Template, into: Path) -> Path:
    from mld.scaffold.new_package import write_distribution

    try:
        return write_distribution(name, template, into, context.obj.registry())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _print_next(folder: Path, checked: str) -> None:
    typer.echo(folder)
    typer.echo(f"next: pip install --editable '{folder}[dev]', then mld check {checked}", err=True)
