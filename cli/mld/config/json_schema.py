"""JSON Schema of a spec, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.errors import PydanticUserError

from mld.config.plugin_sections import MissingSpec
from mld.config.sections import TrainingSpec
from mld.config.spec import Spec
from mld_core import PluginError

if TYPE_CHECKING:
    from mld_core import Entry, Registry


def spec_schema(registry: Registry) -> dict[str, Any]:
    """JSON Schema of a spec with the usable plugins' settings, for editors."""
    schema = Spec.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    del definitions["KindSpec"], definitions["DataSpec"], definitions["BaseModel"]
    training = TrainingSpec.model_json_schema()["properties"]
    missing = {"missing": {"$ref": "#/$defs/MissingSpec"}}
    definitions["MissingSpec"] = MissingSpec.model_json_schema()
    own = properties["diffuse"]
    for role, title, more, home, slot in (
        ("dataset", "kind", missing, properties, "data"),
        ("modality", "kind", {}, properties["modalities"], "additionalProperties"),
        ("method", "method", training, properties, "diffuse"),
    ):
        entries = [entry for entry in registry.entries() if entry.role == role]
        for entry in entries:
            definitions |= _kind_schema(entry, title, more)
        choices = [{"$ref": f"#/$defs/kind.{entry.kind}"} for entry in entries]
        home[slot] = {"oneOf": choices, "discriminator": {"propertyName": title}}
    properties["diffuse"] = {"anyOf": [own, *properties["diffuse"]["oneOf"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _kind_schema(entry: Entry, title: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that one kind adds; their names begin with it, so that none clash.

    `title` is what names the kind in a spec; `more` are settings that every kind takes.
    """
    here = f"kind.{entry.kind}"
    try:
        schema = entry.plugin_class.Config.model_json_schema(
            ref_template=f"#/$defs/{here}.{{model}}"
        )
    except PydanticUserError as error:
        raise PluginError(f"kind {entry.kind!r}: its Config has no JSON Schema: {error}") from error
    inner = {f"{here}.{name}": told for name, told in schema.pop("$defs", {}).items()}
    kind = {"const": entry.kind, "description": entry.summary}
    schema["properties"] = {title: kind} | dict(more) | schema.get("properties", {})
    schema["required"] = [title, *schema.get("required", [])]
    return inner | {here: schema}
