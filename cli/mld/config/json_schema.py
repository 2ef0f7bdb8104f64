"""JSON Schema of a spec, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mld.config.plugin_description import config_schema
from mld.config.plugin_sections import DataSettings, MissingSpec, ModalitySettings
from mld.config.sections import TrainingSpec
from mld.config.spec import Spec

if TYPE_CHECKING:
    from mld_core import Entry, Registry

Schema = dict[str, Any]


def spec_schema(registry: Registry) -> Schema:
    """JSON Schema of a spec, including the settings of every usable plugin."""
    schema = Spec.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    for name in ("ModalitySpec", "DataSpec", "BaseModel"):
        del definitions[name]
    definitions["MissingSpec"] = MissingSpec.model_json_schema()
    of_data = DataSettings.model_json_schema()["properties"]
    training = TrainingSpec.model_json_schema()["properties"]
    entries = registry.entries()
    properties["data"] = _any_kind(entries, "dataset", "kind", of_data, definitions)
    of_modality = ModalitySettings.model_json_schema()["properties"]
    properties["modalities"]["additionalProperties"] = _any_kind(
        entries, "modality", "kind", of_modality, definitions
    )
    methods = _any_kind(entries, "method", "method", training, definitions)
    properties["diffuse"] = {"anyOf": [properties["diffuse"], *methods["oneOf"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _any_kind(
    entries: list[Entry], role: str, key: str, shared: Mapping[str, Any], definitions: Schema
) -> Schema:
    """The schema of a section that is of any kind of a role; adds the kinds to the definitions.

    Args:
        key: under which the section names its kind.
        shared: the settings that every kind has.
    """
    choices = []
    for entry in entries:
        if entry.role == role:
            definitions |= _kind_schema(entry, key, shared)
            choices.append({"$ref": f"#/$defs/kind.{entry.kind}"})
    return {"oneOf": choices, "discriminator": {"propertyName": key}}


def _kind_schema(entry: Entry, key: str, shared: Mapping[str, Any]) -> Schema:
    """The definitions of one kind; their names begin with the kind, so that they are unique."""
    name = f"kind.{entry.kind}"
    schema = config_schema(entry, ref_template=f"#/$defs/{name}.{{model}}")
    inner = {f"{name}.{model}": value for model, value in schema.pop("$defs", {}).items()}
    kind = {"const": entry.kind, "description": entry.summary}
    schema["properties"] = {key: kind, **shared, **schema.get("properties", {})}
    schema["required"] = [key, *schema.get("required", [])]
    return {**inner, name: schema}
