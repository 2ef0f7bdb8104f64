"""A finished run put to use."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from mld.artefact import file_digest, locked
from mld.autoencode import load_autoencoders
from mld.coding import decode, encode, encode_recorded
from mld.compute import resolve
from mld.contend import load_method
from mld.data import layout_of, load_modalities
from mld.diffuse import load_model
from mld.generative import Diffusion, Generative, Given, Rival, guidance_of
from mld.impute import Imputer
from mld.inform import inform, measure_of, standard_measures
from mld.listing import Listing, read_listing
from mld.progress import counting
from mld.requirements import other_versions
from mld.rundir import RunDir
from mld.sampled import Sampled
from mld.score import RowScore, log_densities, score_rows
from mld.sections import GuidanceSpec, MethodSpec
from mld.seeds import derive
from mld.spec import load_spec
from mld.store import Store
from mld.workplace import Workplace
from mld_core import ArtefactError, Classifier, DataError, Registry, SpecError
from mld_core.conditional import ScoreModel
from mld_core.information import MARGINALS, NODES, Estimate
from mld_core.likelihood import LogDensity, log_density, log_density_by_errors
from mld_core.measures import entropy

ENOUGH = 50
"""With fewer validation rows, predictions stay as they are."""


class Run:
    """A finished run: its modalities, autoencoders and score network, ready to be asked.

    Use `load` to get one.
    """

    def __init__(self, run_dir: RunDir, registry: Registry) -> None:
        if not run_dir.spec.is_file():
            raise ArtefactError(f"{run_dir.path} is no run directory: it has no spec.yaml")
        self.run_dir = run_dir
        self.registry = registry
        self.spec = load_spec(run_dir.spec, registry)
        for stage in ("data", "autoencode", "diffuse"):
            run_dir.demand(stage)
        if run_dir.provenance.is_file():
            made_with = run_dir.read_json(run_dir.provenance)["plugins"]
            for message in other_versions(made_with, registry):
                warnings.warn(f"{run_dir.path}: {message}", stacklevel=3)
        compute = resolve(self.spec.compute)
        workplace = Workplace(run_dir, Store.default(), compute, self.spec.seed)
        facts = {name: run_dir.read_json(run_dir.facts(name)) for name in self.spec.modalities}
        self.modalities = load_modalities(self.spec, registry, facts)
        self.autoencoders = load_autoencoders(self.modalities, workplace)
        self.generative = self._load_generative(workplace)

    def _load_generative(self, workplace: Workplace) -> Generative:
        told = self.spec.diffuse
        if isinstance(told, MethodSpec):
            rival = load_method(told, self.registry, self.modalities, workplace)
            return Rival(told.method, rival)
        model = load_model(told, layout_of(self.modalities), workplace)
        return Diffusion(model, self.autoencoders, self.spec.generate)

    @property
    def model(self) -> ScoreModel:
        """The score network. SpecError if the run has none, being another method's."""
        if not isinstance(self.generative, Diffusion):
            told = f"another method trained this run, {self.spec.diffuse.method}"
            raise SpecError(f"{self.run_dir.path}: {told}: this asks for a score network")
        return self.generative.model

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
    ) -> Sampled:
        """`n` samples of the modalities wanted, all others by default, given data for some.

        What is not said is as in the run's spec. The same seed gives the same samples.
        SpecError if the request does not fit the run, DataError if something given does not.
        """
        given = dict(given or {})
        want = [name for name in self.modalities if name not in given] if want is None else want
        generative = self._told_to(sampler=sampler, steps=steps, guidance=guidance)
        items = {name: self._item(name, value) for name, value in given.items()}
        repeated = {name: x.expand(n, *x.shape) for name, x in items.items()}
        latents = {name: self._latent(name, x).expand(n, -1) for name, x in items.items()}
        seeds = [derive(seed, "sample", row) for row in range(n)]
        began = time.perf_counter()
        try:
            samples = generative.draw(Given(repeated, latents), want, seeds)
        except ValueError as error:
            raise SpecError(f"{self.run_dir.path}: {error}") from error
        decoders = generative.decoders
        decoded = {name: decode(decoders[name], samples.latents[name]) for name in want}
        seconds = time.perf_counter() - began
        return Sampled(
            self.modalities,
            {**repeated, **decoded},
            samples.latents,
            tuple(given),
            samples.nfe,
            seconds,
        )

    def score(self, manifest: Path | str | Listing, *, seed: int = 0) -> list[RowScore]:
        """How well the modalities of each row belong together, the least first, in nats.

        SpecError if the run knows no marginals, DataError if the manifest does not fit the run.
        """
        listing = self.listing(manifest)
        if not len(listing.ids):
            raise DataError(f"{listing.path}: has no rows")
        self._demand_marginals("score")
        with counting("score", 100) as show:
            return score_rows(
                self.model,
                listing,
                self._latents(listing),
                self._held_out(),
                derive(seed, "score"),
                lambda share: show(round(100 * share)),
            )

    def impute(
        self, manifest: Path | str | Listing, out: Path | str, n: int = 1, *, seed: int = 0
    ) -> Path:
        """The manifest with its empty cells filled, in a folder; with `n` alternatives for each.

        The same call goes on where an earlier one was stopped. DataError if the manifest does not
        fit the run, ArtefactError if the folder holds something else.
        """
        listing, told = self.listing(manifest), self.spec.generate
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
        rows = int((~listing.present.all(1)).sum())
        with locked(Path(out)), counting("impute", max(rows, 1)) as show:
            return imputer.fill(listing, self._latents(listing), Path(out), show)

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
        measures = {**standard_measures(names), **dict(measure_of(own, names) for own in asked)}
        latents, own = self.model.layout.split(test), derive(seed, "information")
        with counting("information", NODES) as show:
            return inform(self.model, latents, self._held_out(), measures, own, show)

    def log_density(
        self,
        manifest: Path | str | Listing,
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
        listing, own = self.listing(manifest), derive(seed, "score")

        def asked(z: Mapping[str, Tensor]) -> LogDensity:
            if by == "flow":
                return log_density(self.model, z, density, seed=own)
            return log_density_by_errors(self.model, z, density, own, self._held_out())

        try:
            (density,) = entropy(of, given)
            return log_densities(self.model, listing, self._latents(listing), density, asked)
        except ValueError as error:
            raise SpecError(f"{self.run_dir.path}: {error}") from error

    def _told_to(self, **settings: Any) -> Generative:
        """What samples, with other settings. SpecError if it is no diffusion, and has none."""
        told = {name: value for name, value in settings.items() if value is not None}
        if not told:
            return self.generative
        spec = self.spec.generate.model_copy(update=told)
        return Diffusion(self.model, self.autoencoders, spec)

    def listing(self, manifest: Path | str | Listing) -> Listing:
        """A manifest, read against this run. DataError if it does not fit."""
        if isinstance(manifest, Listing):
            return manifest
        return read_listing(Path(manifest), self.modalities, self.registry)

    def _latents(self, listing: Listing) -> dict[str, Tensor]:
        """Raw latents of a manifest's items; zeros where missing."""
        dims = layout_of(self.modalities).dims
        return encode_recorded(self.autoencoders, dims, listing.items, listing.present)

    def _held_out(self) -> dict[str, Tensor] | None:
        """Validation latents to recalibrate predictions on; None if they or marginals lack."""
        if self.model.scheme in ("paper", "joint"):
            return None
        z = self._complete("validation")
        return self.model.layout.split(z) if len(z) >= ENOUGH else None

    def _complete(self, split: str) -> Tensor:
        """Raw joint latents of a split's complete rows."""
        self.run_dir.demand("latents")
        told = self.run_dir.read_tensors(self.run_dir.latents(split))
        return told["z"][told["present"].all(1)]

    def _demand_marginals(self, command: str) -> None:
        if self.model.scheme in ("paper", "joint"):
            raise SpecError(
                f"{self.run_dir.path}: {command}: {MARGINALS.format(self.model.scheme)}"
            )

    def _classifiers(self) -> dict[str, Classifier]:
        """The run's classifiers, by modality; none without labels or before they are trained."""
        classes = self.run_dir.facts_of("data")["classes"]
        if not classes or not self.run_dir.has("judge"):
            return {}
        self.run_dir.demand("judge")
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


__all__ = ["Run", "Sampled", "load"]
