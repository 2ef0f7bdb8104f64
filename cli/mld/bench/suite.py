"""A suite as its file tells it: a base spec, and the axes along which its cells differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, Tag, ValidationError, model_validator

from mld.config.plugin_sections import Rate, Section
from mld.config.sections import ExperimentName, FiniteFloat, GuidanceSpec, Strength
from mld.config.validation_errors import (
    ConfigErrors,
    FieldError,
    discriminate_by_type,
    format_validation_errors,
)
from mld.config.yaml_document import Document, KeyPath
from mld_core import SpecError, did_you_mean

Overrides = dict[str, Any]
"""Dotted names of a spec's settings, and what they become; a mapping replaces a whole section."""

_AXES = {"seed": "seeds", "compute.threads": "threads", "modalities": "modalities"}
"""What a suite sets by a field of its own, and the field."""


class Published(Section):
    """A number that somebody published, printed beside the suite's own."""

    method: str = Field(description="as a table should call it")
    metric: str = Field(description="a column of leaderboard.csv, such as joint_coherence")
    value: FiniteFloat = Field(description="in the leaderboard's unit")
    source: str = Field(description="where it stands, or that it is recalled")
    modalities: list[str] | None = Field(
        None, description="the set it belongs to; that of the suite's first table if left out"
    )


def _a_word_or_lists(told: Any) -> Any:
    if isinstance(told, list) or told in ("base", "all"):
        return told
    wanted = "must be base, all, or a list of lists of modalities"
    raise ConfigErrors([((), f"{wanted}, not {told!r}{did_you_mean(told, ('base', 'all'))}")])


class SuiteSpec(Section):
    """A grid of experiments over one base spec; every axis that is left out has one value."""

    name: ExperimentName = Field(description="the suite's name, and its folder's")
    spec: Annotated[
        Annotated[str, Tag("path")] | Annotated[dict[str, Any], Tag("mapping")],
        discriminate_by_type(
            "must be the path of a spec, or a spec itself", path=str, mapping=dict
        ),
    ] = Field(description="the base spec: a file beside the suite, or the spec itself")
    set: Overrides = Field({}, description="settings that differ from the base in every cell")
    modalities: Annotated[
        Literal["base", "all"] | list[list[str]], BeforeValidator(_a_word_or_lists)
    ] = Field("base", description="sets of modalities; all: every subset of two and more")
    methods: dict[str, Overrides] = Field(
        {"mld": {}}, description="by name: the settings that make the method"
    )
    seeds: list[StrictInt] = Field([0], description="one cell for each")
    missing: list[Rate] = Field([], description="rates of cells left out of training")
    samplers: Annotated[
        Annotated[dict[str, Overrides], Tag("mapping")] | Annotated[list[Overrides], Tag("list")],
        discriminate_by_type(
            "must be a mapping or a list of settings of `generate`", mapping=dict, list=list
        ),
    ] = Field({}, description="settings of `generate`, such as {sampler: ddim, steps: 10}")
    guidance: list[Strength] = Field([], description="strengths of guidance")
    threads: StrictInt = Field(1, ge=1, description="processor threads of a cell")
    published: list[Published] = Field([], description="numbers to print beside the suite's")

    @model_validator(mode="after")
    def _agrees(self) -> SuiteSpec:
        if found := list(self._faults()):
            raise ConfigErrors(found)
        return self

    def _faults(self) -> Iterator[FieldError]:
        """What is wrong between values that are right by themselves."""
        for axis in ("seeds", "methods", "modalities"):
            if not getattr(self, axis):
                yield (axis,), "must hold at least one"
        sets = self.modalities if isinstance(self.modalities, list) else []
        for place, names in enumerate(sets):
            yield from [(("modalities", place), told) for told in _twice(names)]
        yield from [(("modalities",), told) for told in _twice(map(sorted, sets))]
        for axis in ("seeds", "missing", "guidance"):
            yield from [((axis,), told) for told in _twice(getattr(self, axis))]
        if self.guidance:
            yield from self._guided_twice()
        places = [("set",), *(("methods", name) for name in self.methods)]
        for place, own in zip(places, [self.set, *self.methods.values()], strict=True):
            for path in paths(own):
                if field := _AXES.get(".".join(path)):
                    yield (*place, *path), f"is what the suite's `{field}` sets: write it there"

    def _guided_twice(self) -> Iterator[FieldError]:
        """Samplers with a strength of their own, beside an axis of strengths."""
        for place, own in self.sampling().values():
            if settles(own, "guidance"):
                told = "is what the suite's `guidance` sets: leave one of them out"
                yield ("samplers", place, "guidance"), told

    def varied(self, name: str) -> str | None:
        """The field of the suite that sets what has a dotted name in every cell, if one does."""
        for field, own in (("missing", "data.missing"), ("guidance", "generate.guidance")):
            if getattr(self, field) and settles({name: None}, own):
                return field
        samplers = [[f"generate.{own}" for own in told] for _, told in self.sampling().values()]
        for field, told in (("methods", [*self.methods.values()]), ("samplers", samplers)):
            if told and all(_puts(own, name) for own in told):
                return field
        return _AXES.get(name)

    def sampling(self) -> dict[str, tuple[str | int, Overrides]]:
        """The samplers by name: the place of each in `samplers`, and its settings."""
        if isinstance(self.samplers, dict):
            return {name: (name, own) for name, own in self.samplers.items()}
        return {_called(own): (place, own) for place, own in enumerate(self.samplers)}


def paths(own: Overrides) -> Iterator[tuple[str, ...]]:
    """Where overrides tell a value, those inside a section too; with dots, its name in a spec."""
    for name, value in own.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *inner) for inner in paths(value))


def settles(own: Overrides, name: str) -> bool:
    """Whether overrides set what has a dotted name, or something in it."""
    return any(f"{'.'.join(path)}.".startswith(f"{name}.") for path in paths(own))


def _puts(own: Iterable[str], name: str) -> bool:
    """Whether one of some overrides replaces what has a dotted name, alone or with its section."""
    return any(f"{name}.".startswith(f"{path}.") for path in own)


def put_all(cell: Document, told: Document, at: KeyPath, own: Overrides, within: str = "") -> None:
    """Set in a spec what a suite tells at a place of its document."""
    for name in own:
        cell.put(f"{within}{name}", told.part((*at, name)))


def _twice(values: Iterable[Any]) -> list[str]:
    """A complaint for each value that is there again."""
    told = list(values)
    again = [own for place, own in enumerate(told) if told.index(own) < place]
    return [f"holds {own} twice" for place, own in enumerate(again) if again.index(own) == place]


def _called(sampling: Overrides) -> str:
    """What a sampler is called that has no name: ddim 10."""
    rest = {key: value for key, value in sampling.items() if key not in ("sampler", "steps")}
    first = [str(sampling[key]) for key in ("sampler", "steps") if key in sampling]
    return " ".join([*first, *(f"{key} {value}" for key, value in rest.items())])


class Coordinates(Section):
    """Where a cell stands in the grid; "" and None where the suite has no such axis.

    A method that settles an axis itself has none there either.
    """

    modalities: tuple[str, ...]
    method: str
    seed: int
    missing: float | None = None
    sampler: str = ""
    guidance: float | GuidanceSpec | None = None

    def __str__(self) -> str:
        told = ["+".join(self.modalities), self.variant, f"seed {self.seed}"]
        return ", ".join(told)

    @property
    def variant(self) -> str:
        """The method with whatever else the suite varies, as a table calls it."""
        told = [self.method]
        if self.missing is not None:
            told.append(f"missing {self.missing:g}")
        if self.sampler:
            told.append(self.sampler)
        if self.guidance is not None:
            told.append(f"w {self.strength}")
        return " · ".join(told)

    @property
    def strength(self) -> str:
        """The guidance in words."""
        own = self.guidance
        if isinstance(own, GuidanceSpec):
            weights = f"{own.conditional:g}/{own.joint:g}"
            first, last = own.interval
            return weights if last - first == 1 else f"{weights} in {first:g}–{last:g}"
        return "" if own is None else f"{own:g}"


@dataclass(frozen=True)
class Suite:
    """A suite, and the values and places of its file and of its base spec.

    Args:
        folder: what relative paths of the base spec are relative to.
    """

    told: SuiteSpec
    document: Document
    base: Document
    folder: Path

    def with_seeds(self, others: Iterable[int]) -> Suite:
        """The same suite with other seeds after its own."""
        seeds = list(dict.fromkeys([*self.told.seeds, *others]))
        return replace(self, told=self.told.model_copy(update={"seeds": seeds}))


def load_suite(source: Path, overrides: Sequence[str] = (), seeds: Sequence[int] = ()) -> Suite:
    """The suite of a YAML file, its base spec after overrides `a.b=c`; other seeds if any are told.

    One SpecError says everything that is wrong, by line.
    """
    document = Document.read(source, [f"seeds={list(seeds)}"] if seeds else [])
    try:
        told = SuiteSpec.model_validate(document.value)
    except ValidationError as error:
        document.add_errors(format_validation_errors(error, SuiteSpec, document.value))
    document.raise_if_errors()
    if isinstance(told.spec, dict):
        base, folder = document.part(("spec",)), source.resolve().parent
    else:
        # As the user would write it, so that complaints name the file in the user's words.
        path = source.parent / told.spec
        base, folder = Document.read(path), path.resolve().parent
    put_all(base, document, ("set",), told.set)
    for name in (override.partition("=")[0].strip() for override in overrides):
        if field := told.varied(name):
            raise SpecError(f"--set {name}: is what the suite's `{field}` sets: change it there")
    base.apply_overrides(overrides)
    base.raise_if_errors()
    return Suite(told, document, base, folder)
