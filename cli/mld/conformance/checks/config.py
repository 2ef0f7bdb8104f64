"""Checks of what a spec may say: the Config, and the class itself."""

from __future__ import annotations

import json

from pydantic import ValidationError

from mld.conformance.check import Broken, check, demand
from mld.conformance.fixtures import Subject


@check("modality", "dataset")
def documented(subject: Subject) -> None:
    """The class has a docstring of its own; a modality's says what `raw` is."""
    told = subject.plugin_class.__doc__ or ""
    name = subject.plugin_class.__name__
    demand(bool(told.strip()), f"{name} has no docstring: `mld modalities` shows its first line")
    demand(
        not hasattr(subject.plugin_class, "preprocess") or "raw" in told,
        f"the docstring of {name} does not say what raw is: a dataset must know what to serve",
    )


@check("modality", "dataset")
def config_round_trip(subject: Subject) -> None:
    """A config goes through JSON unchanged, so that a finished run can be loaded."""
    told = json.loads(subject.config.model_dump_json())
    back = subject.plugin_class.Config.model_validate(told)
    demand(
        back == subject.config,
        f"{subject.config!r} came back from JSON as {back!r}: let fields be plain data",
    )


@check("modality", "dataset")
def config_schema(subject: Subject) -> None:
    """The Config has a JSON Schema, which knows every field."""
    schema = json.loads(json.dumps(subject.plugin_class.Config.model_json_schema()))
    told = json.loads(subject.config.model_dump_json())
    unknown = sorted(told.keys() - schema.get("properties", {}).keys())
    demand(not unknown, f"the schema has no property for {unknown}: declare them as plain fields")
    absent = sorted(set(schema.get("required", [])) - told.keys())
    demand(not absent, f"the schema requires {absent}, which a dumped config lacks")


@check("modality", "dataset")
def config_described(subject: Subject) -> None:
    """Every field has a description, which error messages and editors show."""
    fields = subject.plugin_class.Config.model_fields
    silent = [name for name, field in fields.items() if not field.description]
    demand(not silent, f"no description for {silent}: write Field(..., description='...')")


@check("modality", "dataset")
def config_closed(subject: Subject) -> None:
    """The Config refuses a field that it does not know, so that no typing error goes unseen."""
    told = {**subject.config.model_dump(), "no_such_field": 1}
    try:
        subject.plugin_class.Config.model_validate(told)
    except ValidationError:
        return
    raise Broken("the Config took the field 'no_such_field': keep extra='forbid'")


@check("modality", "dataset")
def config_frozen(subject: Subject) -> None:
    """A config cannot be changed once made."""
    config = subject.config.model_copy()
    name, value = next(iter(config.model_dump().items()), ("kind", ""))
    try:
        setattr(config, name, value)
    except (ValidationError, ValueError):
        return
    raise Broken(f"{name} of a config could be set: keep frozen=True")


@check("modality")
def latent_dim_positive(subject: Subject) -> None:
    """The Config refuses a latent_dim of 0."""
    try:
        subject.plugin_class.Config.model_validate({**subject.config.model_dump(), "latent_dim": 0})
    except ValidationError:
        return
    raise Broken("the Config took latent_dim: 0; declare it as PositiveInt")
