"""JSON Schema of a spec, for editors.

A value that may be of several kinds or types is described by `if` and `then`, not by `oneOf`: a
validator then explains one error in one sentence, and not why the value fits none of the choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mld.config.plugin_description import config_schema
from mld.config.plugin_sections import DataSettings, MissingSpec, ModalitySettings
from mld.config.sections import TrainingSpec
from mld.config.spec import Spec

if TYPE_CHECKING:
    from mld_core import Entry, Registry

Schema = dict[str, Any]

_OWN_METHOD = "mld"


def spec_schema(registry: Registry) -> Schema:
    """JSON Schema of a spec, including the settings of every usable plugin."""
    schema = Spec.model_json_schema()
    definitions, properties = schema["$defs"], schema["properties"]
    for name in ("ModalitySpec", "DataSpec", "TrackSpec", "BaseModel"):
        del definitions[name]
    definitions["MissingSpec"] = MissingSpec.model_json_schema()
    of_data = DataSettings.model_json_schema()["properties"]
    of_modality = ModalitySettings.model_json_schema()["properties"]
    training = TrainingSpec.model_json_schema()["properties"]
    entries = registry.entries()
    datasets = _define_kinds(entries, "dataset", "kind", of_data, definitions)
    modalities = _define_kinds(entries, "modality", "kind", of_modality, definitions)
    methods = _define_kinds(entries, "method", "method", training, definitions)
    trackers = _define_kinds(entries, "tracker", "kind", {}, definitions)
    properties["track"] = {
        "description": properties["track"]["description"],
        **_by_kind("kind", trackers),
    }
    del properties["data"]["$ref"]
    properties["data"] |= _by_kind("kind", datasets)
    properties["modalities"]["additionalProperties"] = _by_kind("kind", modalities)
    of_diffusion = properties["diffuse"].pop("$ref")
    properties["diffuse"] |= _by_kind("method", {_OWN_METHOD: of_diffusion, **methods}, _OWN_METHOD)
    return published_schema({**schema, "title": "Experiment of mld"})


def published_schema(schema: Schema) -> Schema:
    """A schema of pydantic's with the name of its dialect, and with `if` in place of unions."""
    first = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": schema["title"],
    }
    return {**first, **_without_unions(schema, schema.get("$defs", {}))}


def _define_kinds(
    entries: Sequence[Entry], role: str, key: str, shared: Mapping[str, Any], definitions: Schema
) -> dict[str, str]:
    """The references of the kinds of a role, by kind; adds the kinds to the definitions.

    Args:
        key: under which a section names its kind.
        shared: the settings that every kind has.
    """
    references = {}
    for entry in entries:
        if entry.role == role:
            definitions |= _kind_schema(entry, key, shared)
            references[entry.kind] = f"#/$defs/kind.{entry.kind}"
    return references


def _kind_schema(entry: Entry, key: str, shared: Mapping[str, Any]) -> Schema:
    """The definitions of one kind; their names begin with the kind, so that they are unique."""
    name = f"kind.{entry.kind}"
    schema = config_schema(entry, ref_template=f"#/$defs/{name}.{{model}}")
    inner = {f"{name}.{model}": value for model, value in schema.pop("$defs", {}).items()}
    kind = {"const": entry.kind, "description": entry.summary}
    schema["properties"] = {key: kind, **shared, **schema.get("properties", {})}
    schema["required"] = [key, *schema.get("required", [])]
    return {**inner, name: schema}


def _by_kind(key: str, references: Mapping[str, str], default: str | None = None) -> Schema:
    """The schema of a mapping whose value at `key` says which definition holds.

    Args:
        references: to the definitions, by that value.
        default: the value where the mapping has none; None if it must have one.
    """
    cases = []
    for kind, reference in references.items():
        required = {} if kind == default else {"required": [key]}
        condition = {"type": "object", "properties": {key: {"const": kind}}, **required}
        cases.append({"if": condition, "then": {"$ref": reference}})
    return {
        "type": "object",
        "properties": {key: {"enum": [*references]}},
        **({} if default else {"required": [key]}),
        **({"allOf": cases} if cases else {}),
    }


def _without_unions(node: Any, definitions: Schema) -> Any:
    """A schema in which unions of kinds, and of values of different types, have become `if`."""
    if isinstance(node, list):
        return [_without_unions(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _without_unions(value, definitions) for key, value in node.items()}
    branches = node.get("oneOf") or node.get("anyOf") or []
    rest = {key: value for key, value in node.items() if key not in ("oneOf", "anyOf")}
    if mapping := node.get("discriminator", {}).get("mapping"):
        del rest["discriminator"]
        return {**rest, **_by_kind(node["discriminator"]["propertyName"], mapping)}
    types = [_type_of(branch, definitions) for branch in branches]
    if not branches or None in types or len({*types}) < len(types):
        return node
    cases = [
        {"if": {"type": type_}, "then": branch}
        for type_, branch in zip(types, branches, strict=True)
        if branch != {"type": type_}
    ]
    return {**rest, "type": types, **({"allOf": cases} if cases else {})}


def _type_of(schema: Schema, definitions: Schema) -> str | None:
    """The one type of a schema's values; None if it does not say so."""
    if reference := schema.get("$ref"):
        return _type_of(definitions[reference.rpartition("/")[2]], definitions)
    type_ = schema.get("type")
    return type_ if isinstance(type_, str) else None
