"""The spec of an experiment: what a user writes, checked whole before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from mld.complaints import Finding, Findings, explain
from mld.contradictions import JOINT, contradictions
from mld.kinds import (
    DataSpec,
    KindSpec,
    MissingSpec,
    Section,
    configured_dataset,
    configured_modality,
)
from mld.requirements import met
from mld.sections import (
    AutoencodeSpec,
    ComputeSpec,
    DiffuseSpec,
    GenerateSpec,
    GuidanceSpec,
    JudgeSpec,
    ModelSpec,
    NetworkSpec,
    ResidualMLPSpec,
    TrainingOverride,
    TrainingSpec,
    UNetMLPSpec,
    Whole,
)
from mld.yaml_source import Document, Dotted, dump_yaml
from mld_core import PluginError

if TYPE_CHECKING:
    from mld_core import Entry, Registry


class Spec(Section):
    """An experiment: data, modalities, and the settings of each stage."""

    name: str = Field(description="the experiment's name, and its folder's")
    seed: Whole = Field(0, ge=0, description="of every draw")
    requires: Annotated[dict[str, str], AfterValidator(met)] = Field(
        {}, description="versions by plugin distribution, as {mld-x: '>=0.1'}"
    )
    data: Annotated[DataSpec, BeforeValidator(configured_dataset)] = Field(
        description="where rows come from: a dataset's kind and its settings"
    )
    modalities: dict[str, Annotated[KindSpec, BeforeValidator(configured_modality)]] = Field(
        description="by column of the dataset: a modality's kind and its settings"
    )
    autoencode: AutoencodeSpec = Field(AutoencodeSpec(), description="training the autoencoders")
    diffuse: ModelSpec = Field(DiffuseSpec(), description="training the score network")
    generate: GenerateSpec = Field(GenerateSpec(), description="sampling")
    judge: JudgeSpec = Field(JudgeSpec(), description="training the judging classifiers")
    compute: ComputeSpec = Field(ComputeSpec(), description="processors and precision")

    @model_validator(mode="after")
    def _agrees(self) -> Spec:
        told = self.name, self.data, self.modalities, self.autoencode, self.diffuse, self.generate
        if found := list(contradictions(*told)):
            raise Findings(found)
        return self


def load_spec(source: Path, registry: Registry, overrides: Sequence[str] = ()) -> Spec:
    """The spec of a YAML file, after overrides `a.b=c`.

    Raises one SpecError that says everything that is wrong, sorted by line.
    """
    return spec_of(Document.read(source, overrides), registry, source.resolve().parent)


def spec_of(document: Document, registry: Registry, folder: Path) -> Spec:
    """The spec that a document tells; relative paths in it are meant relative to a folder.

    Raises one SpecError that says everything that is wrong, sorted by line.
    """
    context = {"registry": registry, "folder": folder}
    found: list[Finding] = []
    try:
        spec = Spec.model_validate(document.value, context=context)
    except ValidationError as error:
        found = list(explain(error, Spec, document.value))
        found += _hidden(document.value, found)
    document.refuse(found)
    return spec


_COMPARED: tuple[set[Dotted], ...] = (
    {("diffuse", "roles"), ("diffuse", "p_conditional"), ("generate", "guidance")},
    {("diffuse", "beta_min"), ("diffuse", "beta_max")},
)
"""Fields that are compared with each other: where one is wrong, all are put aside."""


def _hidden(told: Any, found: list[Finding]) -> list[Finding]:
    """Contradictions that show only once the other mistakes are put aside.

    Pydantic compares fields only when each is right by itself; so the wrong ones go back to their
    defaults, and plugins' settings are taken for right.
    """
    if not isinstance(told, dict) or not isinstance(told.get("modalities"), dict):
        return []
    unchecked = KindSpec.model_construct(kind="", config=None)
    untold = DataSpec.model_construct(kind="", config=None, missing=None)
    wrong = {_spoilt(dotted) for dotted, _ in found}
    for compared in _COMPARED:
        wrong |= compared if any(dotted[:2] in compared for dotted in wrong) else set()
    mended = {"name": "unnamed"} | _without(told, wrong)
    mended["data"] = untold
    mended["modalities"] = dict.fromkeys(told["modalities"], unchecked)
    if _is_of_a_plugin(mended.get("diffuse")):
        del mended["diffuse"]
    try:
        Spec.model_validate(mended)
    except ValidationError as error:
        return list(explain(error, Spec, mended))
    return []


def _is_of_a_plugin(diffuse: Any) -> bool:
    method = diffuse.get("method", "mld") if isinstance(diffuse, dict) else "mld"
    return isinstance(method, str) and method != "mld"


def _spoilt(dotted: Dotted) -> Dotted:
    """The named value that a mistake spoils: a whole list, and all that a wrong kind governs."""
    names = next((dotted[:at] for at, part in enumerate(dotted) if isinstance(part, int)), dotted)
    return names[:-1] if names[-1:] == ("kind",) else names


def _without(told: Any, wrong: set[Dotted], at: Dotted = ()) -> Any:
    if not isinstance(told, dict):
        return told
    return {
        name: _without(value, wrong, (*at, name))
        for name, value in told.items()
        if (*at, name) not in wrong
    }


def dump_spec(spec: Spec) -> str:
    """The resolved spec as YAML that loads again as an equal one; its paths are absolute."""
    return dump_yaml(spec.model_dump())


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
        schema = entry.provides.Config.model_json_schema(ref_template=f"#/$defs/{here}.{{model}}")
    except PydanticUserError as error:
        raise PluginError(f"kind {entry.kind!r}: its Config has no JSON Schema: {error}") from error
    inner = {f"{here}.{name}": told for name, told in schema.pop("$defs", {}).items()}
    kind = {"const": entry.kind, "description": entry.summary}
    schema["properties"] = {title: kind} | dict(more) | schema.get("properties", {})
    schema["required"] = [title, *schema.get("required", [])]
    return inner | {here: schema}


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


__all__ = [
    "JOINT",
    "AutoencodeSpec",
    "ComputeSpec",
    "DiffuseSpec",
    "GenerateSpec",
    "GuidanceSpec",
    "JudgeSpec",
    "KindSpec",
    "NetworkSpec",
    "ResidualMLPSpec",
    "Spec",
    "TrainingOverride",
    "TrainingSpec",
    "UNetMLPSpec",
    "dump_spec",
    "load_spec",
    "spec_of",
    "spec_schema",
    "starter_spec",
]
