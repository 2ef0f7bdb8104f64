"""`mld spec validate`, `mld spec schema` and `mld spec init`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import AsJson, Texts, command, parse_pairs, repeatable
from mld.commands.completion import complete_kind


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
def schema(
    context: typer.Context,
    suite: Annotated[bool, typer.Option("--suite", help="That of suites instead.")] = False,
) -> None:
    """Print the JSON Schema of specs with the installed plugins, for editors."""
    from mld.bench.suite_schema import suite_schema
    from mld.config.json_schema import spec_schema

    printed = suite_schema() if suite else spec_schema(context.obj.registry())
    typer.echo(json.dumps(printed, indent=1))


@command
def init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="the experiment's name")],
    modality: Annotated[
        list[str],
        repeatable("NAME=KIND", "A modality's kind", "--modality", "-m", complete=complete_kind),
    ],
    set_: Annotated[
        Texts,
        repeatable("NAME.SETTING=VALUE", "A setting of a modality, such as its size", "--set"),
    ] = None,
) -> None:
    """Write <name>.yaml: a first spec with every setting, its default and its meaning.

    Beside it is mld.schema.json, by which editors check and complete it. What suits a setting is
    chosen too: large pictures, long sounds and long texts get a grid or sequence as their latent.
    """
    from mld.config.json_schema import spec_schema
    from mld.config.starter import SCHEMA_FILE, starter_spec
    from mld.config.yaml_document import Document
    from mld.storage.files import write_json
    from mld.storage.outputs import create_text

    modalities = parse_pairs(modality, "-m/--modality", "NAME=KIND")
    registry = context.obj.registry()
    path, schema_path = Path(f"{name}.yaml"), Path(SCHEMA_FILE)
    settings = Document.parse_overrides(set_ or [])
    create_text(path, starter_spec(name, modalities, registry, settings))
    if not os.path.lexists(schema_path):
        write_json(schema_path, spec_schema(registry))
    typer.echo(path)
