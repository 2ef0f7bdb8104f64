"""What is wrong between the fields of a spec that are right by themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from mld.config.plugin_sections import DataSpec, KindSpec, MissingSpec
from mld.config.sections import AutoencodeSpec, DiffuseSpec, GenerateSpec, GuidanceSpec, MethodSpec
from mld.config.validation_errors import FieldError, did_you_mean
from mld_core.diffusion.role_schemes import has_marginals

JOINT = "joint"
"""The name of the empty observed subset; no modality may bear it."""


def contradictions(
    name: str,
    data: DataSpec,
    modalities: Mapping[str, KindSpec],
    autoencode: AutoencodeSpec,
    diffuse: DiffuseSpec | MethodSpec,
    generate: GenerateSpec,
) -> Iterator[FieldError]:
    """The contradictions of a spec, each with its path from the top."""
    if error := experiment_name_error(name):
        yield ("name",), error
    if not modalities:
        yield ("modalities",), "at least one is needed"
    for modality in modalities:
        if error := modality_name_error(modality):
            yield ("modalities", modality), error
    for own in autoencode.overrides:
        if own not in modalities:
            yield ("autoencode", "overrides", own), _unknown(own, modalities)
    if data.missing:
        yield from _missing_faults(data.missing, modalities)
    yield from _subset_faults(generate.subsets, modalities)
    if isinstance(diffuse, DiffuseSpec):
        yield from _training_faults(diffuse)
        yield from _sampling_faults(diffuse, generate)


def experiment_name_error(name: str) -> str:
    """Why a name, which a folder is called by too, is not valid; "" if it is."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return ""
    allowed = "must be a folder name of letters, digits, '_', '-' and '.'"
    return f"{allowed}, beginning with a letter or digit, not {name!r}"


def modality_name_error(name: str) -> str:
    """Why a modality's name is not valid; "" if it is."""
    if name != JOINT and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        return ""
    return f"a modality's name is made of letters, digits, '_' and '-', and is not {JOINT!r}"


def _missing_faults(missing: MissingSpec, modalities: Iterable[str]) -> Iterator[FieldError]:
    rates = missing.rate if isinstance(missing.rate, dict) else {"": missing.rate}
    for name, rate in rates.items():
        path = ("data", "missing", "rate", *([name] if name else []))
        if name and name not in modalities:
            yield path, _unknown(name, modalities)
        if missing.mechanism == "by-label" and rate > 0.5:
            told = (
                "with mechanism: by-label, a rate is at most 0.5 "
                "(the last class misses twice as much)"
            )
            yield path, f"{told}, not {rate}"


def _training_faults(diffuse: DiffuseSpec) -> Iterator[FieldError]:
    if diffuse.beta_max <= diffuse.beta_min:
        yield (
            ("diffuse", "beta_max"),
            f"must be above beta_min ({diffuse.beta_min}), not {diffuse.beta_max}",
        )
    if diffuse.roles != "paper" and diffuse.p_conditional is not None:
        yield (
            ("diffuse", "p_conditional"),
            f"goes only with roles: paper, and roles is {diffuse.roles}",
        )
    if diffuse.network.kind == "per-subset" and diffuse.roles != "paper":
        told = "per-subset trains a network for each pair of observed and generated modalities"
        yield ("diffuse", "network", "kind"), f"{told}: it goes only with roles: paper"


def _sampling_faults(diffuse: DiffuseSpec, generate: GenerateSpec) -> Iterator[FieldError]:
    guidance = generate.guidance
    if isinstance(guidance, GuidanceSpec):
        guidance = max(guidance.conditional, guidance.joint)
    if not has_marginals(diffuse.roles) and guidance > 0:
        told = f"with roles: {diffuse.roles}, generate.guidance must be 0, not {guidance}"
        why = "its network knows no marginals to guide by"
        written = "guidance" in generate.model_fields_set
        yield (
            ("generate", "guidance") if written else ("diffuse", "roles"),
            f"{told}: {why}",
        )
    conditional = generate.subsets == "auto" or any(generate.subsets)
    if diffuse.roles == "joint" and generate.sampler != "inpaint" and conditional:
        told = "with roles: joint, what is given can only be painted in: sampler must be inpaint"
        yield ("generate", "sampler"), f"{told}, not {generate.sampler}"


def _subset_faults(
    subsets: Literal["auto"] | list[list[str]], modalities: Collection[str]
) -> Iterator[FieldError]:
    seen: list[set[str]] = []
    for place, subset in enumerate([] if subsets == "auto" else subsets):
        path = ("generate", "subsets", place)
        for index, name in enumerate(subset):
            if name not in modalities:
                yield (*path, index), _unknown(name, modalities)
        twice = [name for name, count in Counter(subset).items() if count > 1]
        if twice:
            yield path, f"names {twice[0]!r} twice"
        if modalities and set(subset) >= set(modalities):
            yield path, "observes every modality, so nothing is left to generate"
        if set(subset) in seen:
            yield path, "is the same subset as an earlier one"
        seen.append(set(subset))


def _unknown(name: str, modalities: Iterable[str]) -> str:
    known = ", ".join(modalities)
    return f"no modality {name!r} (modalities: {known}){did_you_mean(name, modalities)}"
