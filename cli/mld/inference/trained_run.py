"""A finished run loaded into memory: it encodes data and samples modalities."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from mld.config.plugin_versions import version_mismatches
from mld.config.sections import GuidanceSpec
from mld.data.encoding import encode
from mld.data.loading import load_fitted_modalities
from mld.inference.samples import GivenRows, SampleRequest, Samples
from mld.pipeline.autoencode import load_autoencoders
from mld.pipeline.diffuse import select_method
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.joint_method import JointGenerator
from mld.pipeline.starting_run import plugins_of, trained_spec
from mld.runtime.compute import place, resolve
from mld.runtime.context import RunContext
from mld.storage.digests import file_digest, tensor_digest
from mld.storage.hub import open_run_dir
from mld.storage.run_dir import RunDir
from mld.storage.stages import DATA, EVALUATE
from mld.storage.weight_store import WeightStore
from mld_core import Classifier, DataError, Registry, SpecError, did_you_mean
from mld_core.diffusion.sampling import ScoreModel

Datum = Path | str | float | Tensor
"""What a run accepts as one datum: a path, the value itself where inline, or an item."""


class TrainedRun:
    """The modalities, autoencoders and joint generator of a finished run.

    `load` makes one. `mld.score`, `mld.impute`, `mld.information` and `mld.log_density` take one.
    """

    def __init__(self, run_dir: RunDir, registry: Registry, store: WeightStore) -> None:
        self.run_dir = run_dir
        self.registry = registry
        self.store = store
        self.spec = trained_spec(run_dir, registry)
        for message in version_mismatches(plugins_of(run_dir), registry):
            warnings.warn(f"{run_dir.path}: {message}", stacklevel=3)
        self.compute = resolve(self.spec.compute)
        context = RunContext(run_dir, store, self.compute, self.spec.seed)
        self.modalities = load_fitted_modalities(self.spec, registry, run_dir)
        self.autoencoders = load_autoencoders(self.modalities, context)
        method = select_method(self.spec, registry, self.modalities)
        self.generator = method.load(self.autoencoders, context)

    def __repr__(self) -> str:
        kinds = (f"{name} ({modality.kind})" for name, modality in self.modalities.items())
        return f"<run {self.run_dir.path} of {', '.join(kinds)}>"

    @property
    def score_model(self) -> ScoreModel:
        """The score network. SpecError if the run was trained by another method than mld."""
        if not isinstance(self.generator, DiffusionGenerator):
            raise SpecError(
                f"{self.run_dir.path}: this needs a score network, but the run was trained by "
                f"another method, {self.spec.diffuse.method}"
            )
        return self.generator.model

    @cached_property
    def classifiers(self) -> dict[str, Classifier]:
        """The evaluation classifiers by modality; not of those without labels."""
        if not self.run_dir.is_complete(EVALUATE.name):
            return {}
        self.run_dir.verify_stage(EVALUATE.name)
        classes = self.run_dir.stage_metadata(DATA.name)["classes"]
        trained = self.run_dir.stage_metadata(EVALUATE.name)["parameters"]
        classifiers = {}
        for name, modality in self.modalities.items():
            if f"{EVALUATE.job}/{name}" in trained:
                classifier = modality.classifier(len(classes))
                self.run_dir.load_weights(classifier, self.run_dir.classifier(name))
                classifiers[name] = place(classifier.eval(), self.compute.device)
        return classifiers

    def encode(self, given: Mapping[str, Datum]) -> dict[str, Tensor]:
        """The raw latent of one datum of each modality, "1 latent".

        A datum is a path, the text, number or truth value itself where the modality is inline, or
        an item as a tensor.
        SpecError for an unknown modality, DataError if a datum cannot be read.
        """
        return {
            name: self._latent(name, self.item(name, datum)[None]) for name, datum in given.items()
        }

    def sample(
        self,
        given: Mapping[str, Datum] | None = None,
        want: Sequence[str] | None = None,
        n: int = 1,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | GuidanceSpec | None = None,
    ) -> Samples:
        """`n` samples of the wanted modalities, conditioned on one datum of each given modality.

        `want` defaults to all modalities that are not given; sampler, steps and guidance default
        to the run's spec. The same seed gives the same samples, whatever `n` is. SpecError if the
        request does not fit the run, DataError if a given datum cannot be read.
        """
        return self.sample_request(
            given, want, seed=seed, sampler=sampler, steps=steps, guidance=guidance
        ).draw(n)

    def sample_request(
        self,
        given: Mapping[str, Datum] | None = None,
        want: Sequence[str] | None = None,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | GuidanceSpec | None = None,
    ) -> SampleRequest:
        """A request for samples, which draws or writes any number of them; see `sample`."""
        data = dict(given or {})
        items = {name: self.item(name, datum)[None] for name, datum in data.items()}
        latents = {name: self._latent(name, x) for name, x in items.items()}
        present = torch.tensor([[name in items for name in self.modalities]])
        files = [
            Path(str(datum))
            for name, datum in data.items()
            if not (self.modalities[name].inline or isinstance(datum, Tensor))
        ]
        return self.request_for_rows(
            GivenRows(items, latents, present),
            want,
            self.generator_with(sampler, steps, guidance),
            seed,
            given={name: _in_words(datum) for name, datum in data.items()},
            inputs=files,
        )

    def request_for_rows(
        self,
        rows: GivenRows,
        want: Sequence[str] | None,
        generator: JointGenerator,
        seed: int,
        *,
        given: Mapping[str, JsonValue],
        inputs: Sequence[Path],
    ) -> SampleRequest:
        """A request for samples for each of some rows; `given` and `inputs` as in SampleRequest.

        `want` defaults to the modalities that no row has. SpecError if it names another than those
        of the run, or one twice.
        """
        if want is None:
            has_none = (~rows.present.any(0)).tolist()
            want = [name for name, free in zip(self.modalities, has_none, strict=True) if free]
        self.check_names(want)
        if len(set(want)) < len(want):
            raise SpecError(f"each modality can be wanted once, not {', '.join(want)}")
        if not want:
            raise SpecError("every modality is given: name those to generate (--want)")
        return SampleRequest(
            modalities=self.modalities,
            generator=generator,
            rows=rows,
            wanted=want,
            seed=seed,
            network=file_digest(self.run_dir.network),
            run=self.run_dir.path,
            given=given,
            inputs=inputs,
            columns=self.spec.columns,
        )

    def generator_with(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | GuidanceSpec | None = None,
    ) -> JointGenerator:
        """The generator with other sampling settings where not None.

        SpecError if there are any and they are invalid or the run has no score network.
        """
        if (sampler, steps, guidance) == (None, None, None):
            return self.generator
        spec = self.spec.generate.with_overrides(sampler=sampler, steps=steps, guidance=guidance)
        return DiffusionGenerator(self.score_model, self.autoencoders, spec)

    def check_names(self, names: Iterable[str]) -> None:
        """SpecError if one of some names is no modality of the run."""
        for name in names:
            if name not in self.modalities:
                listed, hint = ", ".join(self.modalities), did_you_mean(name, self.modalities)
                raise SpecError(
                    f"{self.run_dir.path} has no modality {name!r} (it has {listed}){hint}"
                )

    def _latent(self, name: str, x: Tensor) -> Tensor:
        return encode(self.autoencoders[name], x, self.modalities[name].latent_dim)

    def item(self, name: str, datum: Datum) -> Tensor:
        """The item of a datum of a modality, "*item", read as a manifest's cell is.

        SpecError for an unknown modality, DataError if the datum cannot be read.
        """
        self.check_names([name])
        if isinstance(datum, Tensor):
            return datum
        modality = self.modalities[name]
        text_or_path = json.dumps(datum) if isinstance(datum, int | float) else datum
        source = text_or_path if modality.inline else Path(text_or_path)
        try:
            return modality.preprocess(modality.read(source))
        except (ValueError, OSError) as error:
            raise DataError(f"modality {name!r}, {str(datum)!r}: {error}") from error


def _in_words(datum: Datum) -> JsonValue:
    """A datum as given.json names it: a value itself, a path, or a tensor's shape and digest."""
    if isinstance(datum, Tensor):
        return f"tensor {list(datum.shape)} {tensor_digest(datum)[:16]}"
    return datum if isinstance(datum, int | float) else str(datum)


def load(
    run: Path | str, registry: Registry | None = None, *, store: WeightStore | None = None
) -> TrainedRun:
    """Load a finished run, verifying its files.

    Warns if an installed plugin has another version than the one that trained the run. RunDirError
    if a stage up to diffuse is incomplete or a file was changed, or if the run cannot be
    downloaded. SpecError if it needs plugins that are not installed.

    Args:
        run: its directory; or its address on the Hugging Face Hub, hub:owner/name, or
            hub:owner/name@revision, where a revision is a branch, a tag or a commit.
        registry: by default all installed plugins.
        store: beside whose weights large items of manifests are kept while they are used; by
            default, in the user's cache folder.
    """
    store = store or WeightStore.in_user_cache()
    return TrainedRun(open_run_dir(run), registry or Registry(), store)
