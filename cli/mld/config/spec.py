"""The spec of an experiment: what a user writes, validated before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from mld.config.cross_checks import cross_check_errors
from mld.config.plugin_sections import (
    DataSpec,
    KindSpec,
    Section,
    parse_dataset,
    parse_modality,
)
from mld.config.plugin_versions import check_requirements
from mld.config.sections import (
    AutoencodeSpec,
    ComputeSpec,
    DiffuseSpec,
    EvaluateSpec,
    ExperimentName,
    GenerateSpec,
    ModalityName,
    ModelSpec,
)
from mld.config.validation_errors import ConfigErrors, format_validation_errors, raise_config_errors
from mld.config.yaml_document import Document, dump_yaml

if TYPE_CHECKING:
    from mld_core import Registry


ModalitySpec = Annotated[KindSpec, BeforeValidator(parse_modality)]


class Spec(Section):
    """An experiment: data, modalities, and the settings of each stage."""

    name: ExperimentName = Field(description="the experiment's name, and its folder's")
    seed: StrictInt = Field(default=0, ge=0, description="of every draw")
    requires: Annotated[dict[str, str], AfterValidator(check_requirements)] = Field(
        default={}, description="versions by plugin distribution, as {mld-x: '>=0.1'}"
    )
    data: Annotated[DataSpec, BeforeValidator(parse_dataset)] = Field(
        description="where rows come from: a dataset's kind and its settings"
    )
    modalities: dict[ModalityName, ModalitySpec] = Field(
        description="by column of the dataset: a modality's kind and its settings"
    )
    autoencode: AutoencodeSpec = Field(
        default=AutoencodeSpec(), description="training the autoencoders"
    )
    diffuse: ModelSpec = Field(default=DiffuseSpec(), description="training the score network")
    generate: GenerateSpec = Field(default=GenerateSpec(), description="sampling")
    evaluate: EvaluateSpec = Field(
        default=EvaluateSpec(), description="training the classifiers that measure coherence"
    )
    compute: ComputeSpec = Field(default=ComputeSpec(), description="processors and precision")

    @field_validator("modalities")
    @classmethod
    def _check_modalities(cls, modalities: dict[str, KindSpec]) -> dict[str, KindSpec]:
        if not modalities:
            raise ConfigErrors([((), "at least one is needed")])
        return modalities

    @model_validator(mode="after")
    def _check_sections_together(self) -> Spec:
        errors = cross_check_errors(
            self.modalities,
            self.data,
            self.autoencode,
            self.diffuse,
            self.generate,
            self.evaluate,
            self.compute,
        )
        raise_config_errors(errors)
        return self


def load_spec(source: Path, registry: Registry, overrides: Sequence[str] = ()) -> Spec:
    """The spec in a YAML file, after overrides `a.b=c`.

    Raises one SpecError with all errors, sorted by line.
    """
    return parse_spec(Document.read(source, overrides), registry, source.resolve().parent)


def parse_spec(document: Document, registry: Registry, folder: Path) -> Spec:
    """The spec in a document; relative paths in it are relative to a folder.

    Raises one SpecError with all errors, sorted by line. Checks between sections are made once
    every section is valid by itself.
    """
    context = {"registry": registry, "folder": folder}
    try:
        spec = Spec.model_validate(document.value, context=context)
    except ValidationError as error:
        document.add_errors(format_validation_errors(error, Spec, document.value))
    document.raise_if_errors()
    return spec


def dump_spec(spec: Spec) -> str:
    """The resolved spec as YAML that loads again as an equal one; its paths are absolute."""
    return dump_yaml(spec.model_dump())
