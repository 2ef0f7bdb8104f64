"""A first spec over given modalities, with every setting explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mld.config.plugin_sections import Section
from mld.config.sections import ExperimentName, ModalityName
from mld.config.spec import Spec
from mld.config.validation_errors import format_errors, format_validation_errors
from mld.config.yaml_document import dump_yaml
from mld_core.errors import SpecError

if TYPE_CHECKING:
    from mld_core import Registry


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
    lines = [f"# `mld run {name}.yaml` trains and evaluates this experiment."]
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
                is_required = configs[modality].model_fields["latent_dim"].is_required()
                latent_dim = ", latent_dim: 16" if is_required else ""
                lines.append(f"  {key}: {{kind: {kind}{latent_dim}}}")
        elif isinstance(field.default, Section):
            lines += ["", f"{title}:{comment}"]
            fields = type(field.default).model_fields
            lines += [_setting(key, inner) for key, inner in fields.items()]
        else:
            lines.append(f"{title}: {field.default}{comment}")
    return "\n".join(lines) + "\n"


def _setting(name: str, field: FieldInfo) -> str:
    """One setting and its meaning; commented out if its default is null."""
    default = field.get_default(call_default_factory=True)
    value = default.model_dump() if isinstance(default, Section) else default
    text = dump_yaml(value, flow=True)
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    meaning = field.description
    if len(choices) > 1:
        meaning = f"{meaning}: {', '.join(choices)}"
    return f"  {'# ' if default is None else ''}{name}: {text}  # {meaning}"
