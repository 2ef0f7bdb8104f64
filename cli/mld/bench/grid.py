"""The grid of a suite: its trials, each with the document of a complete spec.

Every value of such a document keeps the location where it was written, in the base spec or in the
suite, so that an error about a trial names the line to correct.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

from mld.bench.suite import Coordinates, Overrides, Suite, apply_overrides, overrides_key, paths
from mld.config.yaml_document import Document, KeyPath
from mld_core import did_you_mean

MAX_TRIALS = 10_000
"""Largest product of a suite's axes; a trial takes minutes."""


def grid(suite: Suite) -> Iterator[tuple[Coordinates, Document]]:
    """Every trial of a suite. A setting that a method overrides is not varied for that method.

    SpecError if the axes multiply to too many trials.
    """
    spec = suite.spec
    _check_size(suite)
    for (path, names), (method, overrides) in product(_modality_sets(suite), spec.methods.items()):
        base = suite.base.part()
        apply_overrides(base, suite.document, ("methods", method), overrides)
        rates: list[float | None] = [None]
        if spec.missing and not overrides_key(overrides, "data.missing"):
            rates = [*spec.missing]
        sampling = _sampling(suite, base, overrides)
        for seed, missing, (sampler, guidance_index) in product(spec.seeds, rates, sampling):
            trial = base.part()
            _set_value(trial, suite, ("seeds",), "seed", seed)
            _set_value(trial, suite, ("threads",), "compute.threads", spec.threads)
            if missing:
                _set_value(trial, suite, ("missing",), "data.missing.rate", missing)
            elif missing is not None:
                _section(trial, "data").pop("missing", None)
            if sampler:
                key, settings = spec.sampler_settings()[sampler]
                apply_overrides(trial, suite.document, ("samplers", key), settings, "generate.")
            guidance = None
            if guidance_index is not None:
                guidance = spec.guidance[guidance_index]
                trial.put("generate.guidance", suite.document.part(("guidance", guidance_index)))
            _keep_modalities(trial, suite, path, names)
            axes: dict[str, Any] = {"missing": missing, "sampler": sampler, "guidance": guidance}
            yield Coordinates(modalities=names, method=method, seed=seed, **axes), trial


def _check_size(suite: Suite) -> None:
    spec, count = suite.spec, len(_section(suite.base, "modalities"))
    sets = 2**count if spec.modalities == "all" else len(spec.modalities)
    axes = (spec.methods, spec.seeds, spec.missing, spec.samplers, spec.guidance)
    trials = math.prod([sets, *(max(1, len(axis)) for axis in axes)])
    if trials > MAX_TRIALS:
        suite.document.add_error((), f"its axes multiply to more than {MAX_TRIALS:,} trials")
        suite.document.raise_if_errors()


def _modality_sets(suite: Suite) -> list[tuple[KeyPath, tuple[str, ...]]]:
    """The sets of modalities, and the path in the suite at which each is given.

    All subsets, if the suite asks for them, are in order of decreasing size.
    """
    names = tuple(_section(suite.base, "modalities"))
    match suite.spec.modalities:
        case "base":
            return [(("modalities",), names)]
        case "all":
            sizes = range(len(names), 1, -1)
            subsets = [subset for size in sizes for subset in combinations(names, size)]
            return [(("modalities",), subset) for subset in subsets]
        case sets:
            return [(("modalities", index), tuple(subset)) for index, subset in enumerate(sets)]


def _sampling(suite: Suite, base: Document, overrides: Overrides) -> list[tuple[str, int | None]]:
    """The pairs of sampler label and index of a guidance strength to be run for a method.

    Both concern only mld's own score network.
    """
    if _section(base, "diffuse").get("method", "mld") != "mld":
        return [("", None)]
    samplers = []
    for label, (_, settings) in suite.spec.sampler_settings().items():
        names = (f"generate.{'.'.join(path)}" for path in paths(settings))
        if not any(overrides_key(overrides, name) for name in names):
            samplers.append(label)
    strengths: list[int | None] = [None]
    if suite.spec.guidance and not overrides_key(overrides, "generate.guidance"):
        strengths = [*range(len(suite.spec.guidance))]
    return list(product(samplers or [""], strengths))


def _set_value(trial: Document, suite: Suite, path: KeyPath, name: str, value: Any) -> None:
    """Set a trial's setting, located at a path of the suite."""
    trial.put(name, Document(value, {(): suite.document.location(path)}))


def _keep_modalities(trial: Document, suite: Suite, path: KeyPath, names: tuple[str, ...]) -> None:
    """Remove all other modalities, and every mention of them, from a trial's spec.

    For each name that the base spec does not have there is an error, located in the suite.
    """
    available = _section(trial, "modalities")
    located = Document(None, suite.document.locations, trial.errors)
    for index, name in enumerate(names):
        if name not in available:
            listed = ", ".join(available)
            message = f"no modality {name!r} (modalities of the base spec: {listed})"
            located.add_error((*path, index), f"{message}{did_you_mean(name, available)}")
    if not available or tuple(available) == names:
        return
    names = tuple(name for name in names if name in available)
    trial.value["modalities"] = {name: available[name] for name in names}
    # A baseline's settings by modality: mappings with names of modalities for all keys.
    by_modality = [
        value
        for value in map(_as_mapping, _section(trial, "diffuse").values())
        if value.keys() <= available.keys()
    ]
    by_modality.append(_section(trial, "autoencode", "overrides"))
    by_modality.append(_section(trial, "data", "missing", "rate"))
    for settings in by_modality:
        for name in settings.keys() & (available.keys() - set(names)):
            del settings[name]
    generate = _section(trial, "generate")
    if _is_list_of_string_lists(generate.get("subsets")):
        subsets = [subset for subset in generate["subsets"] if set(subset) < set(names)]
        generate["subsets"] = subsets
        if not subsets:
            listed = ", ".join(names)
            message = f"nothing to generate: no subset is a proper subset of the trial's {listed}"
            trial.add_error(("generate", "subsets"), message)


def _is_list_of_string_lists(value: Any) -> bool:
    """Whether `subsets` has the right type; if not, validation of the spec reports it."""
    return isinstance(value, list) and all(
        isinstance(subset, list) and all(isinstance(name, str) for name in subset)
        for subset in value
    )


def _section(document: Document, *names: str) -> dict[str, Any]:
    """The mapping at a path of a spec; an empty one if there is none."""
    value = _as_mapping(document.value)
    for name in names:
        value = _as_mapping(value.get(name))
    return value


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
