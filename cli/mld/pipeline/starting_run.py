"""A finished run from which another one starts: it gives its modalities and its score network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from mld.config.plugin_versions import check_plugins
from mld.config.sections import DiffuseSpec, MethodSpec, PerSubsetSpec
from mld.config.spec import Spec, load_spec
from mld.data.loading import layout_of, load_fitted_modalities
from mld.data.modality_columns import Fit
from mld.pipeline.diffusion_method import DiffusionMethod
from mld.runtime.context import RunContext
from mld.storage.digests import differences, digest, file_digest
from mld.storage.run_dir import RunDir
from mld.storage.stages import AUTOENCODE, DATA, DIFFUSE
from mld_core import Modality, Registry, RunDirError, SpecError
from mld_core.diffusion.sampling import ScoreModel

_MAY_DIFFER = {"column"}
"""Settings of a modality that say where it is read."""
_FIXED = ("roles", "beta_min", "beta_max")
"""Settings of `diffuse` on which what a network has learnt depends, beside `network`, `shift`."""


@dataclass(frozen=True)
class StartingRun:
    """A finished run from which another one starts.

    Args:
        modalities: as it has fitted them.
    """

    run_dir: RunDir
    spec: Spec
    modalities: Mapping[str, Modality]

    @property
    def digest(self) -> str:
        """Of all that it gives."""
        stages = {each.name: self.run_dir.stage_digest(each.name) for each in (AUTOENCODE, DIFFUSE)}
        return digest({**stages, "network": file_digest(self.run_dir.ema)})

    @property
    def fits(self) -> dict[str, Fit]:
        """What its modalities have learnt."""
        return {name: Fit(modality.facts) for name, modality in self.modalities.items()}

    def score_model(self, context: RunContext) -> ScoreModel:
        """Its averaged score network, with the statistics of its latents.

        Args:
            context: of the run that starts from it.
        """
        spec = self.spec.diffuse
        assert isinstance(spec, DiffuseSpec)
        method = DiffusionMethod(spec, self.spec.generate, layout_of(self.modalities))
        return method.load({}, replace(context, run_dir=self.run_dir)).model


def trained_spec(run_dir: RunDir, registry: Registry) -> Spec:
    """The spec of a run. RunDirError unless it is intact, and complete up to its joint model."""
    if not run_dir.spec.is_file():
        raise RunDirError(f"{run_dir.path} is not a run directory: it has no spec.yaml")
    run_dir.check_readable()
    run_dir.read_spec()
    try:
        check_plugins(plugins_of(run_dir), registry)
    except SpecError as error:
        raise SpecError(f"{run_dir.path}: {error}") from error
    spec = load_spec(run_dir.spec, registry)
    for stage in (DATA, AUTOENCODE, DIFFUSE):
        run_dir.verify_stage(stage.name)
    return spec


def plugins_of(run_dir: RunDir) -> dict[str, str]:
    """Distribution and version of each plugin of a run, by kind; empty before it is finished."""
    if not run_dir.provenance.is_file():
        return {}
    with run_dir.content_of(run_dir.provenance):
        plugins = run_dir.read_json(run_dir.provenance)["plugins"]
        return {str(kind): str(release) for kind, release in plugins.items()}


def open_starting_run(spec: Spec, registry: Registry) -> StartingRun | None:
    """The run from which a spec starts; None if from none.

    RunDirError if it is not there or not complete, SpecError if the spec does not continue it.
    """
    if spec.start_from is None:
        return None
    run_dir = RunDir(spec.start_from)
    try:
        earlier = trained_spec(run_dir, registry)
    except RunDirError as error:
        raise RunDirError(f"start_from: {error}") from error
    for each, where in ((spec, "this spec names"), (earlier, f"{run_dir.path} was trained by")):
        if isinstance(each.diffuse, MethodSpec):
            message = f"only mld's own method can start from a run, but {where} another"
            raise SpecError(f"start_from: {message}, {each.diffuse.method!r}")
        if isinstance(each.diffuse.network, PerSubsetSpec):
            message = "a network for each subset of modalities (per-subset) cannot be continued"
            raise SpecError(f"start_from: {message}, but {where} one")
    lines = differences(_fixed_settings(earlier, earlier), _fixed_settings(spec, earlier))
    if lines:
        reason = f"{run_dir.path} has other settings, which must stay as they are"
        raise SpecError("\n".join([f"start_from: {reason} (there -> here):", *lines]))
    return StartingRun(run_dir, earlier, load_fitted_modalities(earlier, registry, run_dir))


def sections_of(spec: Spec, start: StartingRun | None) -> dict[str, JsonValue]:
    """The sections of a resolved spec, with the digest of the run from which it starts."""
    sections: dict[str, JsonValue] = spec.model_dump(mode="json")
    return sections if start is None else {**sections, "start_from": start.digest}


def _fixed_settings(spec: Spec, earlier: Spec) -> dict[str, JsonValue]:
    """The settings that a run must share with an earlier one that it continues."""
    sections: dict[str, Any] = spec.model_dump(mode="json")
    modalities: dict[str, JsonValue] = {
        name: {key: value for key, value in section.items() if key not in _MAY_DIFFER}
        for name, section in sections["modalities"].items()
        if name in earlier.modalities
    }
    diffuse = sections["diffuse"]
    network = {key: value for key, value in diffuse["network"].items() if key != "dropout"}
    shifts = diffuse.get("shift", {})
    shift = {name: by for name, by in shifts.items() if name in earlier.modalities}
    fixed: dict[str, JsonValue] = {
        "network": network,
        "shift": shift,
        **{name: diffuse[name] for name in _FIXED},
    }
    return {"modalities": modalities, "diffuse": fixed}
