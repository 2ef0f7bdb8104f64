"""A first spec over given modalities, with every setting explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from mld.config.plugin_description import required_latent_dim
from mld.config.plugin_sections import Section
from mld.config.sections import (
    AutoencodeSpec,
    DiffuseSpec,
    ExperimentName,
    ModalityName,
    TrainingOverride,
    TransformerSpec,
)
from mld.config.spec import Spec
from mld.config.validation_errors import format_errors, format_validation_errors
from mld.config.yaml_document import dump_yaml
from mld_core import ModalityConfig, StructuredConfig
from mld_core.errors import SpecError, did_you_mean, plugin_call

if TYPE_CHECKING:
    from mld_core import Registry


STRUCTURED = TrainingOverride(batch_size=16, learning_rate=2e-3)
"""Training of an autoencoder whose latent has structure: each position of an item is an example."""
TRANSFORMER = {
    "network": TransformerSpec(width=128, patch=4),
    "batch_size": 32,
    "learning_rate": 2e-3,
}
"""What a first spec trains on latents with structure, sized for a processor of a few cores.

Each token of a row is an example, so that many steps of few rows teach more than few of many.
"""
SCHEMA_FILE = "mld.schema.json"
"""The JSON Schema beside a starter spec, which its first line names for editors."""


class _Names(BaseModel):
    """The names in a starter spec."""

    name: ExperimentName
    modalities: dict[ModalityName, None]


def starter_spec(
    name: str,
    modalities: Mapping[str, str],
    registry: Registry,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """A first spec as YAML: every setting with its default and its meaning.

    Args:
        modalities: kinds by name.
        settings: of the modalities, by name. What they suggest is chosen too: a shape of the
            latent that suits the size, and for such latents the network and smaller batches.

    SpecError if a name, a kind or a setting is not valid.
    """
    raw = {"name": name, "modalities": dict.fromkeys(modalities)}
    try:
        _Names.model_validate(raw)
    except ValidationError as error:
        raise SpecError(format_errors(format_validation_errors(error, _Names, raw))) from error
    settings = settings or {}
    for modality, values in settings.items():
        if modality not in modalities:
            hint, listed = did_you_mean(modality, modalities), ", ".join(modalities)
            raise SpecError(f"{modality}: no modality of this name (modalities: {listed}){hint}")
        if not isinstance(values, Mapping):
            raise SpecError(f"{modality}: write a setting as {modality}.SETTING=VALUE")
    configs = {
        modality: _starter_config(modality, registry.modality(kind).Config, settings.get(modality))
        for modality, kind in modalities.items()
    }
    structured = [
        modality
        for modality, config in configs.items()
        if isinstance(config, StructuredConfig) and config.latent is not None
    ]
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"# `mld run {name}.yaml` trains and evaluates this experiment.",
    ]
    for title, field in Spec.model_fields.items():
        comment = f"  # {field.description}"
        if title == "name":
            lines.append(f"name: {dump_yaml(name, flow=True)}{comment}")
        elif title == "data":
            lines.append(f"data: {{kind: examples}}{comment}")
        elif title == "modalities":
            lines.append(f"modalities:{comment}")
            for modality, kind in modalities.items():
                key = dump_yaml(modality, flow=True)
                lines += [f"  {key}:", f"    kind: {kind}"]
                lines += _plugin_settings(configs[modality])
        elif isinstance(field.default, Section):
            lines += ["", f"{title}:{comment}"]
            section = _section_for(field.default, structured)
            fields = type(section).model_fields
            lines += [_setting(key, inner, getattr(section, key)) for key, inner in fields.items()]
        else:
            lines.append(_setting(title, field, field.default).removeprefix("  "))
    return "\n".join(lines) + "\n"


def _starter_config(
    modality: str, config_class: type[ModalityConfig], settings: Mapping[str, Any] | None
) -> ModalityConfig | type[ModalityConfig]:
    """The settings of a modality; without any, its class if one is required and not guessed."""
    values = {**required_latent_dim(config_class), **(settings or {})}
    fields = config_class.model_fields.items()
    if not settings and any(name not in values and f.is_required() for name, f in fields):
        return config_class
    try:
        with plugin_call(f"kind of {modality}: its Config", passes=(ValidationError,)):
            return config_class.model_validate(values).starter()
    except ValidationError as error:
        errors = format_validation_errors(error, config_class, values)
        located = (((modality, *path), message) for path, message in errors)
        raise SpecError(format_errors(located)) from error


def _section_for(section: Section, structured: Sequence[str]) -> Section:
    """The defaults of a section for modalities of which some have a latent with structure."""
    if structured and isinstance(section, DiffuseSpec):
        return section.model_copy(update=TRANSFORMER)
    if structured and isinstance(section, AutoencodeSpec):
        return section.model_copy(update={"overrides": dict.fromkeys(structured, STRUCTURED)})
    return section


def _plugin_settings(config: ModalityConfig | type[ModalityConfig]) -> list[str]:
    """The settings of a modality; one that is required and cannot be guessed is commented out."""
    if isinstance(config, ModalityConfig):
        fields = type(config).model_fields
        return [f"  {_setting(name, f, getattr(config, name))}" for name, f in fields.items()]
    guessed = required_latent_dim(config)
    lines = []
    for name, field in config.model_fields.items():
        if name in guessed:
            lines.append(f"    {name}: {guessed[name]}  # {field.description}")
        elif field.is_required():
            lines.append(f"    # {name}:  # required: {field.description}")
        else:
            default = field.get_default(call_default_factory=True, validated_data={})
            lines.append(f"  {_setting(name, field, default)}")
    return lines


def _setting(name: str, field: FieldInfo, value: Any) -> str:
    """One setting and its meaning; commented out if it is null."""
    text = dump_yaml(to_jsonable_python(value, exclude_none=True), flow=True)
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    meaning = ": ".join(filter(None, [field.description, ", ".join(choices[1:] and choices)]))
    comment = f"  # {meaning}" if meaning else ""
    return f"  {'# ' if value is None else ''}{name}: {text}{comment}"
