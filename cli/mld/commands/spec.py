"""`mld spec validate`, `mld spec schema` and `mld spec init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import AsJson, command, parse_pairs, repeatable


@command
def validate(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(help="a YAML file")],
    as_json: AsJson = False,
) -> None:
    """Print all errors of a spec, or the spec with all its defaults."""
    from mld.config.spec import dump_spec, load_spec

    experiment = load_spec(spec, context.obj.registry())
    text = json.dumps(experiment.model_dump(mode="json")) if as_json else dump_spec(experiment)
    typer.echo(text, nl=False)


@command
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of specs with the installed plugins, for editors."""
    from mld.config.json_schema import spec_schema

    typer.echo(json.dumps(spec_schema(context.obj.registry()), indent=1))


@command
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="the experiment's name")],
    modality: Annotated[
        list[str], repeatable("NAME=KIND", "A modality's kind", "--modality", "-m")
    ],
) -> None:
    """Write <name>.yaml: a first spec with every setting, its default and its meaning."""
    from mld.config.starter import starter_spec
    from mld.storage.outputs import create_text

    modalities = parse_pairs(modality, "-m/--modality", "NAME=KIND")
    text = starter_spec(name, modalities, context.obj.registry())
    path = Path(f"{name}.yaml")
    create_text(path, text)
    typer.echo(path)
