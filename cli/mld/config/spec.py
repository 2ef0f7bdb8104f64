"""The spec of an experiment: what a user writes, validated before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictInt,
    ValidationError,
    field_validator,
)

from mld.config.plugin_sections import (
    OMIT_DEFAULT,
    DataSpec,
    ModalitySpec,
    Section,
    TrackSpec,
    parse_dataset,
    parse_modality,
    parse_tracker,
)
from mld.config.plugin_versions import check_requirements
from mld.config.sections import (
    AutoencodeSpec,
    ComputeSpec,
    DiffuseSpec,
    EvaluateSpec,
    ExperimentName,
    GenerateSpec,
    GuidanceSpec,
    MethodSpec,
    ModalityName,
    ModelSpec,
    PerSubsetSpec,
    TrainingOverride,
    TrainingSpec,
)
from mld.config.validation_errors import ConfigErrors, FieldError, format_validation_errors
from mld.config.yaml_document import Document, KeyPath, dump_yaml
from mld_core.contracts.spec_path import SpecPath
from mld_core.diffusion.limits import MAX_PER_SUBSET_MODALITIES
from mld_core.diffusion.role_schemes import has_marginals
from mld_core.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from mld_core import Registry


_NOT_A_SPEC = (
    ": a spec is a YAML file, such as `mld spec init` writes; it names a table as "
    "data: {kind: manifest, path: rows.csv}"
)
"""Added to the message about a file that is no spec, but perhaps a table."""

ParsedModality = Annotated[ModalitySpec, BeforeValidator(parse_modality)]


def _text_or_none(path: Path | None) -> str | None:
    return None if path is None else str(path)


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
    modalities: dict[ModalityName, ParsedModality] = Field(
        description="by column of the dataset: a modality's kind and its settings"
    )
    autoencode: AutoencodeSpec = Field(
        default=AutoencodeSpec(), description="training the autoencoders"
    )
    diffuse: ModelSpec = Field(default=DiffuseSpec(), description="training the score network")
    generate: GenerateSpec = Field(default=GenerateSpec(), description="sampling")
    evaluate: EvaluateSpec = Field(
        default=EvaluateSpec(), description="training the networks that judge samples"
    )
    compute: ComputeSpec = Field(default=ComputeSpec(), description="processors and precision")
    start_from: Annotated[SpecPath | None, OMIT_DEFAULT, PlainSerializer(_text_or_none)] = Field(
        default=None,
        description="a finished run whose autoencoders and score network this one continues with",
    )

    # Not dumped: it is no part of what a run is, and whoever runs its spec again decides anew.
    track: Annotated[TrackSpec | None, BeforeValidator(parse_tracker)] = Field(
        default=None,
        exclude=True,
        description="a tracker that shows the run: its kind and settings",
    )

    @field_validator("modalities")
    @classmethod
    def _check_modalities(cls, modalities: dict[str, ModalitySpec]) -> dict[str, ModalitySpec]:
        if not modalities:
            raise ConfigErrors([((), "at least one is needed")])
        reader_of: dict[str, str] = {}
        for name, section in modalities.items():
            reader = reader_of.setdefault(section.column or name, name)
            if reader != name:
                message = f"{section.column or name!r} is the column of modality {reader!r} too"
                raise ConfigErrors([((name, "column"), message)])
        by_lower_case: dict[str, str] = {}
        for name in modalities:
            other = by_lower_case.setdefault(name.lower(), name)
            if other != name:
                message = (
                    f"differs from {other!r} in case alone: Windows and macOS would take their "
                    "files for one; rename it, with its old name as `column`"
                )
                raise ConfigErrors([((name,), message)])
        return modalities

    @property
    def columns(self) -> dict[str, str]:
        """The dataset's column that each modality reads."""
        return {name: section.column or name for name, section in self.modalities.items()}

    def plugin_versions(self, registry: Registry) -> dict[str, str]:
        """Distribution and version of each plugin in use, by kind in alphabetical order."""
        kinds = {self.data.kind, *(modality.kind for modality in self.modalities.values())}
        if isinstance(self.diffuse, MethodSpec):
            kinds.add(self.diffuse.method)
        installed = registry.installed()
        return {kind: installed[kind] for kind in sorted(kinds)}

    def _errors(self) -> Iterator[FieldError]:
        yield from self._name_errors()
        if isinstance(self.diffuse, DiffuseSpec):
            yield from self._diffusion_errors(self.diffuse)
        if self.evaluate.judge in ("retrieval", "both") and len(self.modalities) < 2:
            message = f"{self.evaluate.judge} is only valid with several modalities (got one)"
            yield ("evaluate", "judge"), message
        yield from self._batch_size_errors()

    def _name_errors(self) -> Iterator[FieldError]:
        """Errors of modalities' names outside `modalities`."""
        written: list[tuple[KeyPath, str]] = [
            (("autoencode", "overrides", name), name) for name in self.autoencode.overrides
        ]
        if isinstance(self.diffuse, DiffuseSpec):
            written += [(("diffuse", "shift", name), name) for name in self.diffuse.shift]
        if self.data.missing and isinstance(self.data.missing.rate, dict):
            rates = self.data.missing.rate
            written += [(("data", "missing", "rate", name), name) for name in rates]
        subsets = self.generate.subsets
        for index, subset in enumerate([] if subsets == "auto" else subsets):
            path = ("generate", "subsets", index)
            written += [((*path, position), name) for position, name in enumerate(subset)]
            if set(subset) >= set(self.modalities):
                yield path, "observes every modality, so nothing is left to generate"
        for key_path, name in written:
            if name not in self.modalities:
                hint = did_you_mean(name, self.modalities)
                listed = ", ".join(self.modalities)
                yield key_path, f"no modality {name!r} (modalities: {listed}){hint}"

    def _diffusion_errors(self, diffuse: DiffuseSpec) -> Iterator[FieldError]:
        """Errors between mld's own score network, the modalities, and what is sampled from it."""
        count = len(self.modalities)
        if isinstance(diffuse.network, PerSubsetSpec) and count > MAX_PER_SUBSET_MODALITIES:
            message = (
                f"per-subset supports at most {MAX_PER_SUBSET_MODALITIES} modalities, not {count}, "
                f"for which it would train {2**count - 1} networks"
            )
            yield ("diffuse", "network", "kind"), message
        generate, guidance = self.generate, self.generate.guidance
        if isinstance(guidance, GuidanceSpec):
            guidance = max(guidance.conditional, guidance.joint)
        if not has_marginals(diffuse.roles) and guidance > 0:
            written = "guidance" in generate.model_fields_set
            path = ("generate", "guidance") if written else ("diffuse", "roles")
            required = f"with roles: {diffuse.roles}, generate.guidance must be 0, not {guidance}"
            yield path, f"{required}: its network has no marginals, which guidance requires"
        conditional = generate.subsets == "auto" or any(generate.subsets)
        if diffuse.roles == "joint" and generate.sampler != "inpaint" and conditional:
            reason = "roles: joint conditions only by in-painting"
            message = f"{reason}: sampler must be inpaint, not {generate.sampler}"
            yield ("generate", "sampler"), message

    def _batch_size_errors(self) -> Iterator[FieldError]:
        """Errors of batches that cannot be split over the devices of all nodes."""
        compute = self.compute
        devices = compute.nodes * (1 if compute.devices == "auto" else compute.devices)
        setting = "compute.devices" if compute.nodes == 1 else "compute.nodes x compute.devices"
        sections: dict[KeyPath, TrainingSpec | DiffuseSpec | TrainingOverride] = {
            ("autoencode",): self.autoencode,
            ("diffuse",): self.diffuse,
            ("evaluate",): self.evaluate,
        }
        for name, override in self.autoencode.overrides.items():
            sections["autoencode", "overrides", name] = override
        for path, section in sections.items():
            if (size := section.batch_size) and size % devices:
                message = f"must be a multiple of {setting} ({devices}), not {size}"
                yield (*path, "batch_size"), message


def load_spec(source: Path, registry: Registry, overrides: Sequence[str] = ()) -> Spec:
    """The spec in a YAML file, after overrides `a.b=c`.

    Raises one SpecError with all errors, sorted by line.
    """
    document = Document.read(source, _NOT_A_SPEC)
    if "spec" in document.value and "data" not in document.value:
        raise SpecError(f"{source} is a suite, not a spec: run it with `mld bench {source}`")
    document.apply_overrides(overrides)
    return parse_spec(document, registry, source.resolve().parent)


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
    """The resolved spec as YAML that loads again as an equal one; its paths are absolute.

    It does not name the tracker, which decides nothing about a run.
    """
    return dump_yaml(spec.model_dump())
