"""What a plugin is, in the words of its class: its settings, its data and its metrics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from mld.config.plugin_sections import DataSettings, ModalitySettings
from mld.config.sections import TrainingSpec
from mld_core.errors import PluginError, plugin_call

if TYPE_CHECKING:
    from mld_core import Entry, Metric, Modality, Registry

USUAL_LATENT_DIM = 16
"""The latent_dim that is tried where a Config requires one and accepts this."""

EXAMPLE_LABELS = [label % 10 for label in range(100)]
"""The labels of the examples on which a modality is fitted, for its metrics."""

BESIDE: dict[str, tuple[type[BaseModel], ...]] = {
    "modality": (ModalitySettings,),
    "dataset": (DataSettings,),
    "method": (TrainingSpec,),
    "tracker": (),
}
"""By role, the models of settings that a spec holds beside those of the plugin's Config."""

Schema = Mapping[str, Any]

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS = {
    "minimum": "at least {:g}",
    "maximum": "at most {:g}",
    "exclusiveMinimum": "above {:g}",
    "exclusiveMaximum": "below {:g}",
    "multipleOf": "a multiple of {:g}",
    "minLength": "at least {:g} characters",
    "maxLength": "at most {:g} characters",
    "minItems": "at least {:g} values",
    "maxItems": "at most {:g} values",
}
"""What a value must be, by the keyword of JSON Schema."""


@dataclass(frozen=True)
class Setting:
    """A setting of a plugin in a spec.

    Args:
        name: dotted, if it is within another setting: "speech.seconds".
        type: of its value, in words: "whole number", "list of text", "standard or quantile".
        range: of its value, in words, such as "1 to 64"; "" without one.
        required: whether a spec must give it.
        default: as JSON; None if it is required.
        description: what it means.
    """

    name: str
    type: str
    range: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True)
class PluginDescription:
    """A plugin that can be used.

    Args:
        role: modality, dataset or method.
        description: the docstring of its class; that of a modality says what `raw` is.
        inline: of a modality, whether a manifest's cell is the datum itself and not a path.
        needs_complete: of a method, whether rows with a missing cell are left out of its training.
        settings: beside the kind, in the order of the Config.
        metrics: of a modality, by name; None if they depend on settings without a default.
    """

    kind: str
    role: str
    distribution: str
    version: str
    module: str
    description: str
    inline: bool | None
    needs_complete: bool | None
    settings: tuple[Setting, ...]
    metrics: Mapping[str, Metric] | None


def describe_plugin(kind: str, registry: Registry) -> PluginDescription:
    """The description of an installed kind.

    SpecError if there is none, PluginError if its Config has no JSON Schema, or the metrics of a
    modality cannot be listed.
    """
    entry = registry.usable(kind)
    plugin_class: Any = entry.plugin_class
    schemas = config_schema(entry), *(model.model_json_schema() for model in BESIDE[entry.role])
    return PluginDescription(
        kind,
        entry.role,
        entry.distribution,
        entry.version,
        entry.module,
        inspect.getdoc(plugin_class) or "",
        plugin_class.inline if entry.role == "modality" else None,
        plugin_class.needs_complete if entry.role == "method" else None,
        tuple(setting for schema in schemas for setting in settings_of(schema)),
        _metrics(plugin_class) if entry.role == "modality" else {},
    )


def config_schema(entry: Entry, **options: Any) -> dict[str, Any]:
    """The JSON Schema of a usable plugin's Config. PluginError if it has none."""
    assert entry.plugin_class is not None
    try:
        return entry.plugin_class.Config.model_json_schema(**options)
    except PydanticUserError as error:
        raise PluginError(f"kind {entry.kind!r}: its Config has no JSON Schema: {error}") from error


def required_latent_dim(config_class: type[BaseModel]) -> dict[str, int]:
    """A setting `latent_dim` within its range, for a Config that requires one; else empty."""
    field = config_class.model_fields.get("latent_dim")
    if field is None or not field.is_required():
        return {}
    limits = {
        name: limit
        for constraint in field.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if (limit := getattr(constraint, name, None)) is not None
    }
    lowest = max(limits.get("ge", 1), limits.get("gt", 0) + 1)
    highest = min(limits.get("le", math.inf), limits.get("lt", math.inf) - 1)
    step = limits.get("multiple_of", 1)
    latent_dim = math.ceil(max(lowest, min(USUAL_LATENT_DIM, highest)) / step) * step
    return {"latent_dim": latent_dim}


def _metrics(modality_class: type[Modality]) -> Mapping[str, Metric] | None:
    """Those of a modality with default settings that is fitted on its examples."""
    required = {name for name, f in modality_class.Config.model_fields.items() if f.is_required()}
    if required - {"latent_dim"}:
        return None
    with plugin_call(f"kind {modality_class.kind!r}: metrics"):
        config = modality_class.Config(**required_latent_dim(modality_class.Config))
        rng = np.random.default_rng(0)
        raw = modality_class(config).examples(EXAMPLE_LABELS, "train", rng)
        return dict(modality_class(config, modality_class.fit(config, iter(raw))).metrics())


def settings_of(schema: Schema) -> Iterator[Setting]:
    """The settings that the JSON Schema of a model describes, those of models within it dotted."""
    return _settings(schema, schema)


def _settings(
    schema: Schema, root: Schema, prefix: str = "", defaults: Mapping[str, Any] | None = None
) -> Iterator[Setting]:
    """The settings of a model's schema; a setting that is a model is replaced by its fields.

    Args:
        root: the schema with the definitions.
        defaults: values that replace the fields' own defaults.
    """
    for name, field in schema.get("properties", {}).items():
        default = (defaults or {}).get(name, field.get("default"))
        branches = _branches(field, root)
        models = [branch for branch in branches if "properties" in branch]
        if len(models) == len(branches) == 1:
            model = models[0]
            if name not in schema.get("required", []):  # then nothing within it is
                model = {**model, "required": []}
            yield from _settings(model, root, f"{prefix}{name}.", default)
            continue
        yield Setting(
            f"{prefix}{name}",
            " or ".join(dict.fromkeys(_type(branch, root) for branch in branches)),
            " or ".join(filter(None, dict.fromkeys(map(_range, branches)))),
            name in schema.get("required", []),
            default,
            field.get("description", ""),
        )


def _branches(schema: Schema, root: Schema) -> list[Schema]:
    """The schemas of which a value fits one; null only where nothing else is allowed."""
    if reference := schema.get("$ref"):
        schema = {**root["$defs"][reference.rpartition("/")[2]], **schema}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            branches = [each for branch in schema[key] for each in _branches(branch, root)]
            return [each for each in branches if each.get("type") != "null"] or branches
    return [schema]


def _type(schema: Schema, root: Schema) -> str:
    """The type of a value in words."""
    branches = _branches(schema, root)
    if len(branches) > 1:
        return " or ".join(dict.fromkeys(_type(branch, root) for branch in branches))
    (schema,) = branches
    if "const" in schema or "enum" in schema:
        return " or ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "properties" in schema:
        return "mapping"
    kind, inner = schema.get("type"), schema.get("items") or schema.get("additionalProperties")
    if kind in ("array", "object"):
        inner_type = _type(inner, root) if isinstance(inner, dict) else "any value"
        return f"{'list of' if kind == 'array' else 'mapping of names to'} {inner_type}"
    return "path" if schema.get("format") == "path" else _TYPES.get(str(kind), "any value")


def _range(schema: Schema) -> str:
    """The limits of a value in words; "" without limits."""
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    if {"minimum", "maximum"} <= schema.keys():
        limits[:2] = [f"{schema['minimum']:g} to {schema['maximum']:g}"]
    return ", ".join(limits)
