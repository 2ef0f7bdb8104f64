"""A suite as its file tells it: a base spec, and the axes along which its cells differ."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo

from mld.complaints import Findings, did_you_mean, explain
from mld.kinds import Rate, Section
from mld.sections import GuidanceSpec, Real, Whole
from mld.yaml_source import Document
from mld_core import SpecError

Overrides = dict[str, Any]
"""Dotted names of a spec's settings, and what they become; a mapping replaces a whole section."""


class Published(Section):
    """A number that somebody published, printed beside the suite's own."""

    method: str = Field(description="as a table should call it")
    metric: str = Field(description="a column of the leaderboard, such as joint_coherence")
    value: Real = Field(description="in the leaderboard's unit")
    source: str = Field(description="where it stands, or that it is recalled")


def _beside(told: Any, info: ValidationInfo) -> Any:
    return info.context["folder"] / told if isinstance(told, str) and info.context else told


def _known_modalities(told: Any, info: ValidationInfo) -> Any:
    """`all`, or lists of modalities that the base spec has."""
    known = (info.context or {}).get("modalities", ())
    if not isinstance(told, list):
        return told
    found = [
        ((place, index), f"no modality {name!r} (modalities: {', '.join(known)})"
         f"{did_you_mean(name, known)}")
        for place, names in enumerate(told)
        for index, name in enumerate(names if isinstance(names, list) else [])
        if name not in known
    ]  # fmt: skip
    if found:
        raise Findings(found)
    return told


class SuiteSpec(Section):
    """A grid of experiments over one base spec; every axis that is left out has one value."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the suite's name")
    spec: Annotated[Path, BeforeValidator(_beside)] = Field(
        description="the base spec, a file beside the suite"
    )
    set: Overrides = Field({}, description="settings that differ from the base in every cell")
    modalities: Annotated[
        Literal["base", "all"] | list[list[str]], BeforeValidator(_known_modalities)
    ] = Field("base", description="sets of modalities; all: every subset of two and more")
    methods: dict[str, Overrides] = Field(
        {"mld": {}}, min_length=1, description="by name: the settings that make the method"
    )
    seeds: list[Whole] = Field([0], min_length=1, description="one cell for each")
    missing: list[Rate] = Field([], description="rates of cells left out of training")
    samplers: dict[str, Overrides] = Field(
        {}, description="by name: settings of `generate`, such as {sampler: ddim, steps: 10}"
    )
    guidance: list[float | GuidanceSpec] = Field([], description="strengths of guidance")
    threads: Whole = Field(1, ge=1, description="processor threads of a cell")
    published: list[Published] = Field([], description="numbers to print beside the suite's")


class Coordinates(Section):
    """Where a cell stands in the grid; "" and None where the suite has no such axis."""

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
            return f"{own.conditional:g}/{own.joint:g}"
        return "" if own is None else f"{own:g}"


class Suite(Section):
    """A suite with the plain values of its base spec."""

    told: SuiteSpec
    base: dict[str, Any]

    def cells(self) -> list[tuple[Coordinates, dict[str, Any]]]:
        """The grid: coordinates, and the settings that make each cell of the base."""
        told = self.told
        axes = product(
            self._sets(),
            told.methods.items(),
            told.seeds,
            told.missing or [None],
            (told.samplers or {"": {}}).items(),
            told.guidance or [None],
        )
        cells = []
        for names, (method, own), seed, missing, (sampler, sampling), guidance in axes:
            at = Coordinates(
                modalities=names,
                method=method,
                seed=seed,
                missing=missing,
                sampler=sampler,
                guidance=guidance,
            )
            settings = {
                **told.set,
                **own,
                **{f"generate.{key}": value for key, value in sampling.items()},
                "seed": seed,
                "compute.threads": told.threads,
            }
            if missing:
                settings["data.missing"] = {"rate": missing}
            if guidance is not None:
                dumped = isinstance(guidance, GuidanceSpec)
                settings["generate.guidance"] = guidance.model_dump() if dumped else guidance
            cells.append((at, {**self._without_others(names), **settings}))
        return cells

    def _sets(self) -> list[tuple[str, ...]]:
        names = tuple(self.base.get("modalities", {}))
        if self.told.modalities == "base":
            return [names]
        if self.told.modalities == "all":
            sizes = range(len(names), 1, -1)
            return [own for size in sizes for own in combinations(names, size)]
        return [tuple(own) for own in self.told.modalities]

    def _without_others(self, names: tuple[str, ...]) -> dict[str, Any]:
        """What leaves the other modalities out of the base spec, wherever they are named."""
        known = self.base.get("modalities", {})
        if tuple(known) == names:
            return {}
        settings: dict[str, Any] = {"modalities": {name: known[name] for name in names}}
        overrides = (self.base.get("autoencode") or {}).get("overrides")
        if overrides:
            kept = {name: own for name, own in overrides.items() if name in names}
            settings["autoencode.overrides"] = kept
        subsets = (self.base.get("generate") or {}).get("subsets", "auto")
        if subsets != "auto":
            kept = [own for own in subsets if set(own) < set(names)]
            settings["generate.subsets"] = kept
        return settings


def load_suite(source: Path) -> Suite:
    """The suite of a YAML file. One SpecError says everything that is wrong, by line."""
    document = Document.read(source)
    folder = source.resolve().parent
    base: Any = {}
    path = document.value.get("spec") if isinstance(document.value, dict) else None
    if isinstance(path, str):
        base = Document.read(folder / path).value
    known = base.get("modalities") if isinstance(base, dict) else None
    context = {"folder": folder, "modalities": tuple(known) if isinstance(known, dict) else ()}
    try:
        told = SuiteSpec.model_validate(document.value, context=context)
    except ValidationError as error:
        for dotted, message in dict.fromkeys(explain(error, SuiteSpec, document.value)):
            document.complain(dotted, message)
    if document.complaints:
        raise SpecError("\n".join(str(complaint) for complaint in sorted(document.complaints)))
    return Suite(told=told, base=base)


__all__ = ["Coordinates", "Published", "Suite", "SuiteSpec", "load_suite"]
