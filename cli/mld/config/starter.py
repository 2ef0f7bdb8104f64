"""A first spec over given modalities, every setting explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pydantic.fields import FieldInfo

from mld.config.plugin_sections import Section
from mld.config.spec import Spec
from mld.config.yaml_document import dump_yaml


def starter_spec(name: str, modalities: Mapping[str, str]) -> str:
    """A first spec over named kinds: every setting with its default and what it means."""
    lines = [f"# `mld run {name}.yaml` carries this experiment from its data to a report."]
    for title, field in Spec.model_fields.items():
        meaning = f"  # {field.description}"
        if title == "name":
            lines.append(f"name: {name}{meaning}")
        elif title == "data":
            lines.append(f"data: {{kind: examples}}{meaning}")
        elif title == "modalities":
            lines.append(f"modalities:{meaning}")
            lines += [
                f"  {own}: {{kind: {kind}, latent_dim: 16}}" for own, kind in modalities.items()
            ]
        elif isinstance(field.default, Section):
            lines += ["", f"{title}:{meaning}"]
            lines += [
                _setting(key, inner) for key, inner in type(field.default).model_fields.items()
            ]
        else:
            lines.append(f"{title}: {field.default}{meaning}")
    return "\n".join(lines) + "\n"


def _setting(name: str, field: FieldInfo) -> str:
    """One commented line of a starter spec; a setting without a default is commented out."""
    default = field.get_default(call_default_factory=True)
    told = default.model_dump() if isinstance(default, Section) else default
    value = dump_yaml(told, flow=True).removesuffix("...\n").strip()
    words = [word for word in get_args(field.annotation) if isinstance(word, str)]
    meaning = f"{field.description}: {', '.join(words)}" if len(words) > 1 else field.description
    return f"  {'# ' if default is None else ''}{name}: {value}  # {meaning}"
