"""A first spec over given modalities, with every setting explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from mld.config.plugin_description import required_latent_dim
from mld.config.plugin_sections import Section
from mld.config.sections import ExperimentName, ModalityName
from mld.config.spec import Spec
from mld.config.validation_errors import format_errors, format_validation_errors
from mld.config.yaml_document import dump_yaml
from mld_core.errors import SpecError

if TYPE_CHECKING:
    from mld_core import Registry


SCHEMA_FILE = "mld.schema.json"
"""The JSON Schema beside a starter spec, which its first line names for editors."""


class _Names(BaseModel):
    """The names in a starter spec."""

    name: ExperimentName
    modalities: dict[ModalityName, None]


def starter_spec(name: str, modalities: Mapping[str, str], registry: Registry) -> str:
    """A first spec as YAML: every setting with its default and its meaning.

    `modalities` gives kinds by name. SpecError if a name or a kind is not valid.
    """
    raw = {"name": name, "modalities": dict.fromkeys(modalities)}
    try:
        _Names.model_validate(raw)
    except ValidationError as error:
        raise SpecError(format_errors(format_validation_errors(error, _Names, raw))) from error
    configs = {name: registry.modality(kind).Config for name, kind in modalities.items()}
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
            fields = type(field.default).model_fields
            lines += [_setting(key, inner) for key, inner in fields.items()]
        else:
            lines.append(f"{title}: {field.default}{comment}")
    return "\n".join(lines) + "\n"


def _plugin_settings(config_class: type[BaseModel]) -> list[str]:
    """The settings of a modality; one that is required and cannot be guessed is commented out."""
    guessed = required_latent_dim(config_class)
    lines = []
    for name, field in config_class.model_fields.items():
        if name in guessed:
            lines.append(f"    {name}: {guessed[name]}  # {field.description}")
        elif field.is_required():
            lines.append(f"    # {name}:  # required: {field.description}")
        else:
            lines.append(f"  {_setting(name, field)}")
    return lines


def _setting(name: str, field: FieldInfo) -> str:
    """One setting and its meaning; commented out if its default is null."""
    default = field.get_default(call_default_factory=True, validated_data={})
    text = dump_yaml(to_jsonable_python(default), flow=True)
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    meaning = ": ".join(filter(None, [field.description, ", ".join(choices[1:] and choices)]))
    comment = f"  # {meaning}" if meaning else ""
    return f"  {'# ' if default is None else ''}{name}: {text}{comment}"
