"""Suites: a base spec and the axes along which its trials differ, read from YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, Tag, ValidationError

from mld.config.plugin_sections import Rate, Section
from mld.config.sections import ExperimentName, FiniteFloat, GuidanceSpec, Strength
from mld.config.validation_errors import (
    ConfigErrors,
    FieldError,
    describe_value,
    discriminate_by_type,
    format_validation_errors,
)
from mld.config.yaml_document import Document, KeyPath
from mld_core import SpecError, did_you_mean

Overrides = dict[str, Any]
"""New values by dotted name of a spec's setting; a mapping replaces a whole section."""

_AXIS_OF_KEY = {"seed": "seeds", "compute.threads": "threads", "modalities": "modalities"}
"""Settings of a spec that a suite always sets, and the suite's field for each."""


class Published(Section):
    """A published number, shown beside the suite's results."""

    method: str = Field(description="the method's name in the tables")
    metric: str = Field(description="a column of leaderboard.csv, such as joint_coherence")
    value: FiniteFloat = Field(description="in the unit of that column")
    source: str = Field(description="where it was published, or that it is recalled")
    modalities: list[str] | None = Field(
        None, description="the set of modalities it is for; default: that of the first table"
    )


def _check_modalities(value: Any) -> Any:
    if isinstance(value, list) or value in ("base", "all"):
        return value
    expected = "must be base, all, or a list of lists of modalities"
    hint = did_you_mean(value, ("base", "all"))
    raise ConfigErrors([((), f"{expected}, not {describe_value(value)}{hint}")])


class SuiteSpec(Section):
    """A grid of experiments over one base spec; an axis that is left out has one value."""

    name: ExperimentName = Field(description="name of the suite and of its folder")
    spec: Annotated[
        Annotated[str, Tag("path")] | Annotated[dict[str, Any], Tag("mapping")],
        discriminate_by_type(
            "must be the path of a spec, or a spec itself", path=str, mapping=dict
        ),
    ] = Field(description="the base spec: a path relative to the suite, or the spec itself")
    set: Overrides = Field({}, description="settings that differ from the base in every trial")
    modalities: Annotated[
        Literal["base", "all"] | list[list[str]], BeforeValidator(_check_modalities)
    ] = Field("base", description="sets of modalities; all: every subset of two or more")
    methods: dict[str, Overrides] = Field(
        {"mld": {}}, description="by name: the settings that define the method"
    )
    seeds: list[StrictInt] = Field([0], description="random seeds, a trial for each")
    missing: list[Rate] = Field([], description="rates of cells left out of training")
    samplers: Annotated[
        Annotated[dict[str, Overrides], Tag("mapping")] | Annotated[list[Overrides], Tag("list")],
        discriminate_by_type(
            "must be a mapping or a list of settings of `generate`", mapping=dict, list=list
        ),
    ] = Field({}, description="settings of `generate`, such as {sampler: ddim, steps: 10}")
    guidance: list[Strength] = Field([], description="guidance strengths")
    threads: StrictInt = Field(1, ge=1, description="CPU threads per trial")
    published: list[Published] = Field([], description="numbers to show beside the suite's")

    def _errors(self) -> Iterator[FieldError]:
        for axis in ("seeds", "methods", "modalities"):
            if not getattr(self, axis):
                yield (axis,), "must contain at least one"
        sets = self.modalities if isinstance(self.modalities, list) else []
        for index, names in enumerate(sets):
            yield from _duplicates(("modalities", index), names)
        yield from _duplicates(("modalities",), [sorted(names) for names in sets])
        for axis in ("seeds", "missing", "guidance"):
            yield from _duplicates((axis,), getattr(self, axis))
        for key, overrides in self.sampler_settings().values() if self.guidance else ():
            if overrides_key(overrides, "guidance"):
                message = "conflicts with the suite's `guidance`; remove one of the two"
                yield ("samplers", key, "guidance"), message
        by_path: dict[KeyPath, Overrides] = {("set",): self.set}
        by_path |= {("methods", name): overrides for name, overrides in self.methods.items()}
        for path, overrides in by_path.items():
            for key_path in paths(overrides):
                if field := _AXIS_OF_KEY.get(".".join(key_path)):
                    yield (*path, *key_path), f"conflicts with the suite's `{field}`; set it there"

    def axis_of(self, name: str) -> str | None:
        """The suite's field that sets a spec's setting, a dotted name, in every trial, if any."""
        for axis, key in (("missing", "data.missing"), ("guidance", "generate.guidance")):
            if getattr(self, axis) and overrides_key({name: None}, key):
                return axis
        settings = self.sampler_settings().values()
        samplers = [[f"generate.{key}" for key in overrides] for _, overrides in settings]
        for axis, replaced in (("methods", list(self.methods.values())), ("samplers", samplers)):
            if replaced and all(_replaces(keys, name) for keys in replaced):
                return axis
        return _AXIS_OF_KEY.get(name)

    def sampler_settings(self) -> dict[str, tuple[str | int, Overrides]]:
        """By label of a sampler: its key or index in `samplers`, and its settings."""
        if isinstance(self.samplers, dict):
            return {name: (name, settings) for name, settings in self.samplers.items()}
        return {_sampler_label(item): (index, item) for index, item in enumerate(self.samplers)}


def paths(overrides: Overrides) -> Iterator[tuple[str, ...]]:
    """The keys of every overridden value, nested ones included; dotted, a setting's name."""
    for name, value in overrides.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *inner) for inner in paths(value))


def overrides_key(overrides: Overrides, name: str) -> bool:
    """Whether overrides set the setting of a dotted name, or something inside it."""
    return any(f"{'.'.join(path)}.".startswith(f"{name}.") for path in paths(overrides))


def _replaces(keys: Iterable[str], name: str) -> bool:
    """Whether one of the overridden keys is that of a dotted name, or of a section around it."""
    return any(f"{name}.".startswith(f"{key}.") for key in keys)


def apply_overrides(
    spec: Document, suite: Document, path: KeyPath, overrides: Overrides, prefix: str = ""
) -> None:
    """Set in a spec the overrides at a path of the suite's document; values keep their location."""
    for name in overrides:
        spec.put(f"{prefix}{name}", suite.part((*path, name)))


def _duplicates(path: KeyPath, values: Sequence[Any]) -> list[FieldError]:
    repeated = [value for index, value in enumerate(values) if value in values[:index]]
    return [(path, f"contains {value} more than once") for value in repeated]


def _sampler_label(settings: Overrides) -> str:
    """The label of a sampler without a name, such as "ddim 10"."""
    main = {key: settings[key] for key in ("sampler", "steps") if key in settings}
    others = [f"{key} {value}" for key, value in settings.items() if key not in main]
    return " ".join([*map(str, main.values()), *others])


class Coordinates(Section):
    """A trial's position in the grid.

    A value is "" or None where the suite has no such axis, or the trial's method sets it itself.
    """

    modalities: tuple[str, ...]
    method: str
    seed: int
    missing: float | None = None
    sampler: str = ""
    guidance: float | GuidanceSpec | None = None

    def __str__(self) -> str:
        return f"{'+'.join(self.modalities)}, {self.variant}, seed {self.seed}"

    @property
    def variant(self) -> str:
        """The method and whatever else the suite varies, as shown in tables."""
        missing = "" if self.missing is None else f"missing {self.missing:g}"
        guidance = "" if self.guidance is None else f"w {self.guidance_label}"
        parts = [part for part in (missing, self.sampler, guidance) if part]
        return " · ".join([self.method, *parts])

    @property
    def variant_key(self) -> tuple[tuple[str, ...], str]:
        """The set of modalities and the variant: all but the seed."""
        return self.modalities, self.variant

    @property
    def guidance_label(self) -> str:
        """The guidance strength as text: "2", or "2/1 in 0.1–0.6" (conditional/joint, interval)."""
        if isinstance(self.guidance, GuidanceSpec):
            weights = f"{self.guidance.conditional:g}/{self.guidance.joint:g}"
            first, last = self.guidance.interval
            return weights if last - first == 1 else f"{weights} in {first:g}–{last:g}"
        return "" if self.guidance is None else f"{self.guidance:g}"


@dataclass(frozen=True)
class Suite:
    """A suite, with the values of its file and of its base spec and where they were written.

    Relative paths of the base spec are relative to `folder`.
    """

    spec: SuiteSpec
    document: Document
    base: Document
    folder: Path

    def with_seeds(self, seeds: Iterable[int]) -> Suite:
        """The same suite with more seeds, after those it has."""
        all_seeds = list(dict.fromkeys([*self.spec.seeds, *seeds]))
        return replace(self, spec=self.spec.model_copy(update={"seeds": all_seeds}))


def load_suite(path: Path, overrides: Sequence[str] = (), seeds: Sequence[int] = ()) -> Suite:
    """Read a suite from a YAML file.

    Args:
        overrides: settings `a.b=c` of the base spec, applied after the suite's `set`.
        seeds: replace the suite's seeds if there are any.

    Raises:
        SpecError: with all errors of the suite, each with its file and line.
    """
    document = Document.read(path, ": a suite is a YAML file that names a spec, as spec: a.yaml")
    if "spec" not in document.value and "data" in document.value:
        raise SpecError(f"{path} is an experiment, not a suite: run it with `mld run {path}`")
    document.apply_overrides([f"seeds={list(seeds)}"] if seeds else [])
    try:
        spec = SuiteSpec.model_validate(document.value)
    except ValidationError as error:
        document.add_errors(format_validation_errors(error, SuiteSpec, document.value))
    document.raise_if_errors()
    if isinstance(spec.spec, dict):
        base, folder = document.part(("spec",)), path.resolve().parent
    else:
        # Not resolved, so that errors name the file as the user wrote it.
        base_path = path.parent / spec.spec
        base, folder = Document.read(base_path), base_path.resolve().parent
    apply_overrides(base, document, ("set",), spec.set)
    for name in (override.partition("=")[0].strip() for override in overrides):
        if axis := spec.axis_of(name):
            raise SpecError(f"--set {name}: conflicts with the suite's `{axis}`; change it there")
    base.apply_overrides(overrides)
    base.raise_if_errors()
    return Suite(spec, document, base, folder)
