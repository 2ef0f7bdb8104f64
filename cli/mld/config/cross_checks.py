"""Checks between the sections of a spec, each of which is valid by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mld.config.plugin_sections import DataSpec
from mld.config.sections import (
    AutoencodeSpec,
    ComputeSpec,
    DiffuseSpec,
    EvaluateSpec,
    GenerateSpec,
    GuidanceSpec,
    MethodSpec,
)
from mld.config.validation_errors import FieldError
from mld.config.yaml_document import KeyPath
from mld_core.diffusion.limits import MAX_PER_SUBSET_MODALITIES
from mld_core.diffusion.role_schemes import has_marginals
from mld_core.errors import did_you_mean


def cross_check_errors(
    names: Collection[str],
    data: DataSpec,
    autoencode: AutoencodeSpec,
    diffuse: DiffuseSpec | MethodSpec,
    generate: GenerateSpec,
    evaluate: EvaluateSpec,
    compute: ComputeSpec,
) -> Iterator[FieldError]:
    """The errors between a spec's sections, each with its path from the top.

    `names` are those of the modalities.
    """
    for name in autoencode.overrides:
        if name not in names:
            yield ("autoencode", "overrides", name), _unknown(name, names)
    if data.missing and isinstance(data.missing.rate, dict):
        for name in data.missing.rate:
            if name not in names:
                yield ("data", "missing", "rate", name), _unknown(name, names)
    subsets = [] if generate.subsets == "auto" else generate.subsets
    for index, subset in enumerate(subsets):
        for position, name in enumerate(subset):
            if name not in names:
                yield ("generate", "subsets", index, position), _unknown(name, names)
        if set(subset) >= set(names):
            message = "observes every modality, so nothing is left to generate"
            yield ("generate", "subsets", index), message
    if isinstance(diffuse, DiffuseSpec):
        if diffuse.network.kind == "per-subset" and len(names) > MAX_PER_SUBSET_MODALITIES:
            message = (
                f"per-subset supports at most {MAX_PER_SUBSET_MODALITIES} modalities, not "
                f"{len(names)}, for which it would train {2 ** len(names) - 1} networks"
            )
            yield ("diffuse", "network", "kind"), message
        yield from _sampling_errors(diffuse, generate)
    if compute.devices != "auto":
        batch_sizes: dict[KeyPath, int | None] = {
            ("autoencode", "batch_size"): autoencode.batch_size,
            ("diffuse", "batch_size"): diffuse.batch_size,
            ("evaluate", "batch_size"): evaluate.batch_size,
        }
        for name, override in autoencode.overrides.items():
            batch_sizes["autoencode", "overrides", name, "batch_size"] = override.batch_size
        for path, size in batch_sizes.items():
            if size and size % compute.devices:
                yield path, f"must be a multiple of compute.devices ({compute.devices}), not {size}"


def _sampling_errors(diffuse: DiffuseSpec, generate: GenerateSpec) -> Iterator[FieldError]:
    guidance = generate.guidance
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


def _unknown(name: str, modalities: Iterable[str]) -> str:
    listed = ", ".join(modalities)
    return f"no modality {name!r} (modalities: {listed}){did_you_mean(name, modalities)}"
