"""`mld spec check`, `mld spec schema` and `mld spec init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import AsJson, command, pair


@command
def check(
    spec: Annotated[Path, typer.Argument(help="a YAML file")],
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a spec, or print it with all its defaults."""
    from mld.config.spec import dump_spec, load_spec
    from mld_core import Registry

    told = load_spec(spec, Registry())
    typer.echo(json.dumps(told.model_dump(mode="json")) if as_json else dump_spec(told), nl=False)


@command
def schema() -> None:
    """Print the JSON Schema of specs with the installed plugins, for editors."""
    from mld.config.json_schema import spec_schema
    from mld_core import Registry

    typer.echo(json.dumps(spec_schema(Registry()), indent=1))


@command
def init(
    name: Annotated[str, typer.Argument(help="the experiment's name")],
    modality: Annotated[
        list[str], typer.Option("--modality", "-m", metavar="NAME=KIND", help="May be repeated.")
    ],
) -> None:
    """Write <name>.yaml: a first spec, every setting with its default and what it means."""
    from mld.config.starter import starter_spec

    path = Path(f"{name}.yaml")
    text = starter_spec(name, dict(pair(told) for told in modality))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"{path} is already there, and nothing is overwritten") from None
    typer.echo(path)
