"""The grid of a suite: its trials, each with the document of a complete spec.

Every value of such a document keeps the location where it was written, in the base spec or in the
suite, so that an error about a trial names the line to correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Any

from mld.bench.suite import Coordinates, Overrides, Suite, apply_overrides, overrides_key, paths
from mld.config.yaml_document import Document, KeyPath
from mld_core import did_you_mean


def grid(suite: Suite) -> Iterator[tuple[Coordinates, Document]]:
    """Every trial of a suite. A setting that a method overrides is not varied for that method."""
    spec = suite.spec
    for (path, names), (method, overrides) in product(_modality_sets(suite), spec.methods.items()):
        base = suite.base.part()
        apply_overrides(base, suite.document, ("methods", method), overrides)
        rates: list[float | None] = [None]
        if spec.missing and not overrides_key(overrides, "data.missing"):
            rates = [*spec.missing]
        for seed, missing in product(spec.seeds, rates):
            for sampler, guidance_index in _sampling_axes(suite, base, overrides):
                guidance = None if guidance_index is None else spec.guidance[guidance_index]
                coordinates = Coordinates(
                    modalities=names,
                    method=method,
                    seed=seed,
                    missing=missing,
                    sampler=sampler,
                    guidance=guidance,
                )
                trial = base.part()
                _set_value(trial, suite, ("seeds",), "seed", seed)
                _set_value(trial, suite, ("threads",), "compute.threads", spec.threads)
                _set_missing_rate(trial, suite, missing)
                if sampler:
                    key, settings = spec.sampler_settings()[sampler]
                    samplers_path = ("samplers", key)
                    apply_overrides(trial, suite.document, samplers_path, settings, "generate.")
                if guidance_index is not None:
                    value = suite.document.part(("guidance", guidance_index))
                    trial.put("generate.guidance", value)
                _select_modalities(trial, suite, path, names)
                yield coordinates, trial


def _modality_sets(suite: Suite) -> list[tuple[KeyPath, tuple[str, ...]]]:
    """The sets of modalities, and the path in the suite at which each is given.

    All subsets, if the suite asks for them, are in order of decreasing size.
    """
    names = tuple(_as_mapping(_as_mapping(suite.base.value).get("modalities")))
    match suite.spec.modalities:
        case "base":
            return [(("modalities",), names)]
        case "all":
            sizes = range(len(names), 1, -1)
            subsets = [subset for size in sizes for subset in combinations(names, size)]
            return [(("modalities",), subset) for subset in subsets]
        case sets:
            return [(("modalities", index), tuple(subset)) for index, subset in enumerate(sets)]


def _sampling_axes(
    suite: Suite, base: Document, overrides: Overrides
) -> list[tuple[str, int | None]]:
    """The pairs of sampler label and index of a guidance strength to be run for a method.

    Both concern only mld's own score network.
    """
    diffuse = _as_mapping(_as_mapping(base.value).get("diffuse"))
    if diffuse.get("method", "mld") != "mld":
        return [("", None)]
    samplers = [
        label
        for label, (_, settings) in suite.spec.sampler_settings().items()
        if not any(
            overrides_key(overrides, f"generate.{'.'.join(path)}") for path in paths(settings)
        )
    ]
    strengths: list[int | None] = [None]
    if suite.spec.guidance and not overrides_key(overrides, "generate.guidance"):
        strengths = [*range(len(suite.spec.guidance))]
    return list(product(samplers or [""], strengths))


def _set_value(trial: Document, suite: Suite, path: KeyPath, name: str, value: Any) -> None:
    """Set a trial's setting, located at a path of the suite."""
    trial.put(name, Document(value, {(): suite.document.location(path)}))


def _set_missing_rate(trial: Document, suite: Suite, rate: float | None) -> None:
    """Set the rate of missing cells; 0 removes what the base spec says of it, None keeps it."""
    if rate:
        _set_value(trial, suite, ("missing",), "data.missing.rate", rate)
    elif rate is not None:
        _as_mapping(_as_mapping(trial.value).get("data")).pop("missing", None)


def _select_modalities(
    trial: Document, suite: Suite, path: KeyPath, names: tuple[str, ...]
) -> None:
    """Remove all other modalities, and every mention of them, from a trial's spec."""
    spec = _as_mapping(trial.value)
    available = _as_mapping(spec.get("modalities"))
    _check_names(trial, suite, path, names, available)
    if not available or tuple(available) == names:
        return
    names = tuple(name for name in names if name in available)
    spec["modalities"] = {name: available[name] for name in names}
    removed = available.keys() - set(names)
    autoencode = _as_mapping(spec.get("autoencode"))
    rates = _as_mapping(_as_mapping(spec.get("data")).get("missing")).get("rate")
    # A baseline's settings by modality: mappings with names of modalities for all keys.
    by_modality = [
        value
        for value in _as_mapping(spec.get("diffuse")).values()
        if _as_mapping(value).keys() <= available.keys()
    ]
    for settings in (autoencode.get("overrides"), rates, *by_modality):
        for name in removed & _as_mapping(settings).keys():
            del settings[name]
    generate = _as_mapping(spec.get("generate"))
    if _is_list_of_string_lists(generate.get("subsets")):
        subsets = [subset for subset in generate["subsets"] if set(subset) < set(names)]
        generate["subsets"] = subsets
        if not subsets:
            listed = ", ".join(names)
            message = f"nothing to generate: no subset is a proper subset of the trial's {listed}"
            trial.add_error(("generate", "subsets"), message)


def _check_names(
    trial: Document, suite: Suite, path: KeyPath, names: Iterable[str], available: Iterable[str]
) -> None:
    """Add an error, located in the suite, for each name that the base spec does not have."""
    located = Document(None, suite.document.locations)
    for index, name in enumerate(names):
        if name not in available:
            listed = ", ".join(available)
            message = f"no modality {name!r} (modalities of the base spec: {listed})"
            located.add_error((*path, index), f"{message}{did_you_mean(name, available)}")
    trial.errors += located.errors


def _is_list_of_string_lists(value: Any) -> bool:
    """Whether `subsets` has the right type; if not, validation of the spec reports it."""
    return isinstance(value, list) and all(
        isinstance(subset, list) and all(isinstance(name, str) for name in subset)
        for subset in value
    )


def _as_mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}
