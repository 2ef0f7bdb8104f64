"""The spec of an experiment: what a user writes, checked whole before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from mld.config.cross_checks import contradictions
from mld.config.plugin_sections import (
    DataSpec,
    KindSpec,
    Section,
    configured_dataset,
    configured_modality,
)
from mld.config.plugin_versions import met
from mld.config.sections import (
    AutoencodeSpec,
    ComputeSpec,
    DiffuseSpec,
    EvaluateSpec,
    GenerateSpec,
    ModelSpec,
    Whole,
)
from mld.config.validation_errors import ConfigErrors, FieldError, format_validation_errors
from mld.config.yaml_document import Document, KeyPath, dump_yaml

if TYPE_CHECKING:
    from mld_core import Registry


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
    evaluate: EvaluateSpec = Field(EvaluateSpec(), description="training the judging classifiers")
    compute: ComputeSpec = Field(ComputeSpec(), description="processors and precision")

    @model_validator(mode="after")
    def _agrees(self) -> Spec:
        told = self.name, self.data, self.modalities, self.autoencode, self.diffuse, self.generate
        if found := list(contradictions(*told)):
            raise ConfigErrors(found)
        return self


def load_spec(source: Path, registry: Registry, overrides: Sequence[str] = ()) -> Spec:
    """The spec of a YAML file, after overrides `a.b=c`.

    Raises one SpecError that says everything that is wrong, sorted by line.
    """
    return parse_spec(Document.read(source, overrides), registry, source.resolve().parent)


def parse_spec(document: Document, registry: Registry, folder: Path) -> Spec:
    """The spec that a document tells; relative paths in it are meant relative to a folder.

    Raises one SpecError that says everything that is wrong, sorted by line.
    """
    context = {"registry": registry, "folder": folder}
    found: list[FieldError] = []
    try:
        spec = Spec.model_validate(document.value, context=context)
    except ValidationError as error:
        found = list(format_validation_errors(error, Spec, document.value))
        found += _hidden(document.value, found)
    document.refuse(found)
    return spec


_COMPARED: tuple[set[KeyPath], ...] = (
    {("diffuse", "roles"), ("diffuse", "p_conditional"), ("generate", "guidance")},
    {("diffuse", "beta_min"), ("diffuse", "beta_max")},
)
"""Fields that are compared with each other: where one is wrong, all are put aside."""


def _hidden(told: Any, found: list[FieldError]) -> list[FieldError]:
    """Contradictions that show only once the other mistakes are put aside.

    Pydantic compares fields only when each is right by itself; so the wrong ones go back to their
    defaults, and plugins' settings are taken for right.
    """
    if not isinstance(told, dict) or not isinstance(told.get("modalities"), dict):
        return []
    unchecked = KindSpec.model_construct(kind="", config=None)
    untold = DataSpec.model_construct(kind="", config=None, missing=None)
    wrong = {_spoilt(path) for path, _ in found}
    for compared in _COMPARED:
        wrong |= compared if any(path[:2] in compared for path in wrong) else set()
    mended = {"name": "unnamed"} | _without(told, wrong)
    mended["data"] = untold
    mended["modalities"] = dict.fromkeys(told["modalities"], unchecked)
    if _is_of_a_plugin(mended.get("diffuse")):
        del mended["diffuse"]
    try:
        Spec.model_validate(mended)
    except ValidationError as error:
        return list(format_validation_errors(error, Spec, mended))
    return []


def _is_of_a_plugin(diffuse: Any) -> bool:
    method = diffuse.get("method", "mld") if isinstance(diffuse, dict) else "mld"
    return isinstance(method, str) and method != "mld"


def _spoilt(path: KeyPath) -> KeyPath:
    """The named value that a mistake spoils: a whole list, and all that a wrong kind governs."""
    names = next((path[:at] for at, part in enumerate(path) if isinstance(part, int)), path)
    return names[:-1] if names[-1:] == ("kind",) else names


def _without(told: Any, wrong: set[KeyPath], at: KeyPath = ()) -> Any:
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
