"""Checks of the class's docstring and its Config."""

from __future__ import annotations

import json

from pydantic import ValidationError

from mld.conformance.check import check, require
from mld.conformance.fixtures import ModalityUnderTest, PluginUnderTest


@check("modality", "dataset", "method")
def documented(plugin: PluginUnderTest) -> None:
    """The class has a docstring; that of a modality says what `raw` is."""
    docstring = (plugin.plugin_class.__doc__ or "").strip()
    name = plugin.plugin_class.__name__
    require(bool(docstring), f"{name} has no docstring: `mld describe` prints it")
    require(
        "raw" in docstring or not isinstance(plugin, ModalityUnderTest),
        f"the docstring of {name} does not say what raw is: datasets must know what to serve",
    )


@check("modality", "dataset", "method")
def config_round_trip(plugin: PluginUnderTest) -> None:
    """A config is equal after a round trip through JSON, so that a finished run can be loaded."""
    values = json.loads(plugin.config.model_dump_json())
    loaded = plugin.plugin_class.Config.model_validate(values)
    require(
        loaded == plugin.config,
        f"{plugin.config!r} came back from JSON as {loaded!r}: use fields of plain data",
    )


@check("modality", "dataset", "method")
def config_schema(plugin: PluginUnderTest) -> None:
    """The Config has a JSON Schema that contains every field."""
    schema = json.loads(json.dumps(plugin.plugin_class.Config.model_json_schema()))
    values = json.loads(plugin.config.model_dump_json())
    unknown = sorted(values.keys() - schema.get("properties", {}).keys())
    require(not unknown, f"the schema has no property for {unknown}: declare them as plain fields")
    absent = sorted(set(schema.get("required", [])) - values.keys())
    require(not absent, f"the schema requires {absent}, which a dumped config lacks")


@check("modality", "dataset", "method")
def config_described(plugin: PluginUnderTest) -> None:
    """Every field of the Config has a description; error messages and editors show it."""
    fields = plugin.plugin_class.Config.model_fields
    bare = [name for name, field in fields.items() if not field.description]
    require(not bare, f"no description for {bare}: write Field(..., description='...')")


@check("modality", "dataset", "method")
def config_closed(plugin: PluginUnderTest) -> None:
    """The Config rejects unknown fields, so that a misspelt field is an error."""
    known = _accepts(plugin, no_such_field=1)
    require(not known, "the Config accepts the unknown field 'no_such_field': keep extra='forbid'")


@check("modality", "dataset", "method")
def config_frozen(plugin: PluginUnderTest) -> None:
    """A config is immutable."""
    frozen = plugin.plugin_class.Config.model_config.get("frozen")
    require(bool(frozen), "fields of a config can be assigned: keep frozen=True")


@check("modality")
def latent_dim_positive(plugin: ModalityUnderTest) -> None:
    """The Config rejects a latent_dim of 0."""
    accepts = _accepts(plugin, latent_dim=0)
    require(not accepts, "the Config accepts latent_dim: 0; declare it as PositiveInt")


def _accepts(plugin: PluginUnderTest, **changes: object) -> bool:
    """Whether the Config validates the plugin's values with some of them changed."""
    try:
        plugin.plugin_class.Config.model_validate({**plugin.config.model_dump(), **changes})
    except ValidationError:
        return False
    return True
