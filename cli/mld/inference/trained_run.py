"""A finished run put to use."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mld.config.plugin_versions import version_mismatches
from mld.config.sections import GuidanceSpec
from mld.config.spec import load_spec
from mld.data.encoding import decode, encode, encode_present
from mld.data.loading import layout_of, load_modalities
from mld.inference.impute import Imputer
from mld.inference.information import estimate_information, parse_measure, standard_measures
from mld.inference.manifest import ManifestRows, read_manifest
from mld.inference.samples import Samples
from mld.inference.score import RowScore, log_densities, score_rows
from mld.pipeline.autoencode import load_autoencoders
from mld.pipeline.diffuse import joint_method
from mld.pipeline.diffusion_method import DiffusionGenerator, guidance_of
from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld.runtime.compute import resolve
from mld.runtime.context import RunContext
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.digests import file_digest
from mld.storage.locks import locked
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Classifier, DataError, Registry, RunDirError, SpecError
from mld_core.diffusion.role_schemes import NO_MARGINALS_MESSAGE
from mld_core.diffusion.sampling import ScoreModel
from mld_core.information.estimator import NODES, Estimate
from mld_core.information.likelihood import LogDensity, log_density, log_density_by_errors
from mld_core.information.measures import entropy

ENOUGH = 50
"""With fewer validation rows, predictions stay as they are."""


class Run:
    """A finished run: its modalities, autoencoders and score network, ready to be asked.

    Use `load` to get one.
    """

    def __init__(self, run_dir: RunDir, registry: Registry) -> None:
        if not run_dir.spec.is_file():
            raise RunDirError(f"{run_dir.path} is no run directory: it has no spec.yaml")
        self.run_dir = run_dir
        self.registry = registry
        self.spec = load_spec(run_dir.spec, registry)
        for stage in ("data", "autoencode", "diffuse"):
            run_dir.verify_stage(stage)
        if run_dir.provenance.is_file():
            made_with = run_dir.read_json(run_dir.provenance)["plugins"]
            for message in version_mismatches(made_with, registry):
                warnings.warn(f"{run_dir.path}: {message}", stacklevel=3)
        compute = resolve(self.spec.compute)
        context = RunContext(run_dir, WeightStore.in_user_cache(), compute, self.spec.seed)
        facts = {
            name: run_dir.read_json(run_dir.modality_facts(name)) for name in self.spec.modalities
        }
        self.modalities = load_modalities(self.spec, registry, facts)
        self.autoencoders = load_autoencoders(self.modalities, context)
        method = joint_method(self.spec, registry, self.modalities)
        self.generator = method.load(self.autoencoders, context)

    @property
    def model(self) -> ScoreModel:
        """The score network. SpecError if the run has none, being another method's."""
        if not isinstance(self.generator, DiffusionGenerator):
            told = f"another method trained this run, {self.spec.diffuse.method}"
            raise SpecError(f"{self.run_dir.path}: {told}: this asks for a score network")
        return self.generator.model

    def encode(self, given: Mapping[str, Path | str | Tensor]) -> dict[str, Tensor]:
        """The raw latents of data, "1 latent" each: a path, a text where inline, or an item."""
        return {name: self._latent(name, self._item(name, told)) for name, told in given.items()}

    def sample(
        self,
        given: Mapping[str, Path | str | Tensor] | None = None,
        want: Sequence[str] | None = None,
        n: int = 1,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | GuidanceSpec | None = None,
    ) -> Samples:
        """`n` samples of the modalities wanted, all others by default, given data for some.

        What is not said is as in the run's spec. The same seed gives the same samples.
        SpecError if the request does not fit the run, DataError if something given does not.
        """
        given = dict(given or {})
        want = [name for name in self.modalities if name not in given] if want is None else want
        generator = self._told_to(sampler=sampler, steps=steps, guidance=guidance)
        items = {name: self._item(name, value) for name, value in given.items()}
        repeated = {name: x.expand(n, *x.shape) for name, x in items.items()}
        latents = {name: self._latent(name, x).expand(n, -1) for name, x in items.items()}
        seeds = [derive(seed, "sample", row) for row in range(n)]
        began = time.perf_counter()
        try:
            samples = generator.sample(Conditioning(repeated, latents), want, seeds)
        except ValueError as error:
            raise SpecError(f"{self.run_dir.path}: {error}") from error
        decoders = generator.decoders
        decoded = {name: decode(decoders[name], samples.latents[name]) for name in want}
        seconds = time.perf_counter() - began
        return Samples(
            self.modalities,
            {**repeated, **decoded},
            samples.latents,
            tuple(given),
            samples.nfe,
            seconds,
        )

    def score(self, manifest: Path | str | ManifestRows, *, seed: int = 0) -> list[RowScore]:
        """How well the modalities of each row belong together, the least first, in nats.

        SpecError if the run knows no marginals, DataError if the manifest does not fit the run.
        """
        manifest_rows = self.manifest_rows(manifest)
        if not len(manifest_rows.ids):
            raise DataError(f"{manifest_rows.path}: has no rows")
        self._demand_marginals("score")
        with counting("score", 100) as show:
            return score_rows(
                self.model,
                manifest_rows,
                self._latents(manifest_rows),
                self._held_out(),
                derive(seed, "score"),
                lambda share: show(round(100 * share)),
            )

    def impute(
        self, manifest: Path | str | ManifestRows, out: Path | str, n: int = 1, *, seed: int = 0
    ) -> Path:
        """The manifest with its empty cells filled, in a folder; with `n` alternatives for each.

        The same call goes on where an earlier one was stopped. DataError if the manifest does not
        fit the run, RunDirError if the folder holds something else.
        """
        manifest_rows, told = self.manifest_rows(manifest), self.spec.generate
        imputer = Imputer(
            self.model,
            self.modalities,
            self.autoencoders,
            self._classifiers(),
            told.sampler,
            told.steps,
            guidance_of(told.guidance),
            n,
            seed,
            file_digest(self.run_dir.ema),
        )
        rows = int((~manifest_rows.present.all(1)).sum())
        with locked(Path(out)), counting("impute", max(rows, 1)) as show:
            return imputer.fill(manifest_rows, self._latents(manifest_rows), Path(out), show)

    def information(
        self, asked: Sequence[str] = (), *, rows: int = 500, seed: int = 0
    ) -> dict[str, Estimate]:
        """Mutual information and the like, in nats, on at most `rows` complete test rows.

        `asked` names more of it, as "a,b;c|d" for I(a, b; c | d). SpecError if the run knows no
        marginals, DataError if fewer than two test rows are complete.
        """
        self._demand_marginals("information")
        test = self._complete("test")[:rows]
        if len(test) < 2:
            raise DataError(f"{self.run_dir.path}: fewer than two test rows are complete")
        names = self.model.layout.names
        measures = {**standard_measures(names), **dict(parse_measure(own, names) for own in asked)}
        latents, own = self.model.layout.split(test), derive(seed, "information")
        with counting("information", NODES) as show:
            return estimate_information(self.model, latents, self._held_out(), measures, own, show)

    def log_density(
        self,
        manifest: Path | str | ManifestRows,
        of: Sequence[str],
        given: Sequence[str] = (),
        *,
        by: Literal["flow", "errors"] = "flow",
        seed: int = 0,
    ) -> LogDensity:
        """log p(of | given) of each row's latents, in nats; NaN where a row lacks any of them.

        By the probability flow, or by the integral of errors that scores are made of. SpecError if
        the run knows no such density, DataError if the manifest does not fit the run.
        """
        manifest_rows, own = self.manifest_rows(manifest), derive(seed, "score")

        def asked(z: Mapping[str, Tensor]) -> LogDensity:
            if by == "flow":
                return log_density(self.model, z, density, seed=own)
            return log_density_by_errors(self.model, z, density, own, self._held_out())

        try:
            (density,) = entropy(of, given)
            return log_densities(
                self.model, manifest_rows, self._latents(manifest_rows), density, asked
            )
        except ValueError as error:
            raise SpecError(f"{self.run_dir.path}: {error}") from error

    def _told_to(self, **settings: Any) -> JointGenerator:
        """What samples, with other settings. SpecError if it is no diffusion, and has none."""
        told = {name: value for name, value in settings.items() if value is not None}
        if not told:
            return self.generator
        spec = self.spec.generate.with_overrides(**told)
        return DiffusionGenerator(self.model, self.autoencoders, spec)

    def manifest_rows(self, manifest: Path | str | ManifestRows) -> ManifestRows:
        """A manifest, read against this run. DataError if it does not fit."""
        if isinstance(manifest, ManifestRows):
            return manifest
        return read_manifest(Path(manifest), self.modalities, self.registry)

    def _latents(self, manifest_rows: ManifestRows) -> dict[str, Tensor]:
        """Raw latents of a manifest's items; zeros where missing."""
        dims = layout_of(self.modalities).dims
        return encode_present(self.autoencoders, dims, manifest_rows.items, manifest_rows.present)

    def _held_out(self) -> dict[str, Tensor] | None:
        """Validation latents to recalibrate predictions on; None if they or marginals lack."""
        if not self.model.has_marginals:
            return None
        z = self._complete("validation")
        return self.model.layout.split(z) if len(z) >= ENOUGH else None

    def _complete(self, split: str) -> Tensor:
        """Raw joint latents of a split's complete rows."""
        self.run_dir.verify_stage("latents")
        told = self.run_dir.read_tensors(self.run_dir.latents(split))
        return told["z"][told["present"].all(1)]

    def _demand_marginals(self, command: str) -> None:
        if not self.model.has_marginals:
            message = NO_MARGINALS_MESSAGE.format(scheme=self.model.scheme)
            raise SpecError(f"{self.run_dir.path}: {command}: {message}")

    def _classifiers(self) -> dict[str, Classifier]:
        """The run's classifiers, by modality; none without labels or before they are trained."""
        classes = self.run_dir.stage_metadata("data")["classes"]
        if not classes or not self.run_dir.is_complete("evaluate"):
            return {}
        self.run_dir.verify_stage("evaluate")
        found = {}
        for name, modality in self.modalities.items():
            classifier = modality.classifier(len(classes))
            classifier.load_state_dict(self.run_dir.read_tensors(self.run_dir.classifier(name)))
            found[name] = classifier.eval()
        return found

    def _latent(self, name: str, x: Tensor) -> Tensor:
        return encode(self.autoencoders[name], x[None], self.modalities[name].config.latent_dim)

    def _item(self, name: str, told: Path | str | Tensor) -> Tensor:
        if name not in self.modalities:
            known = ", ".join(self.modalities)
            raise SpecError(f"{self.run_dir.path} has no modality {name!r} (it has {known})")
        if isinstance(told, Tensor):
            return told
        modality = self.modalities[name]
        source = told if modality.inline else Path(told)
        try:
            return modality.preprocess(modality.read(source))
        except (ValueError, OSError) as error:
            raise DataError(f"modality {name!r}, {str(told)!r}: {error}") from error


def load(folder: Path | str, registry: Registry | None = None) -> Run:
    """The run in a folder, verified, its networks in memory.

    Warns where plugins of other versions made it.
    """
    return Run(RunDir(Path(folder)), registry or Registry())
