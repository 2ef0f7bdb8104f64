"""The method of a plugin: its joint model, fitted and trained on rows of items or of latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import JsonValue
from torch import Generator, Tensor

from mld.config.sections import MethodSpec
from mld.data.latent_rows import latent_rows
from mld.data.loading import Data, SplitRows, layout_of
from mld.data.types import LatentCache, SplitLatents
from mld.pipeline.joint_method import (
    Conditioning,
    JointGenerator,
    JointMethod,
    pop_standardiser,
    standardiser_tensors,
)
from mld.runtime.compute import device_of, place
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld.storage.digests import code_digest
from mld.storage.run_dir import RunDir
from mld.storage.stages import DIFFUSE
from mld.training.autoencoders import REFERENCES, build_autoencoder, references_of
from mld.training.job import Objective, Rows, TrainConfig, TrainJob, deciding_settings
from mld.training.train import TrainedWeights
from mld_core import (
    Autoencoder,
    JointModel,
    MethodConfig,
    Modality,
    PluginError,
    Registry,
    SpecError,
    plugin_call,
)
from mld_core.diffusion.sampling import LatentSamples
from mld_core.diffusion.standardiser import Standardiser
from mld_core.plugins.discovery import installed_version


class MethodObjective(Objective):
    """A joint model's own loss on rows.

    Args:
        modalities: whose items are augmented as for the autoencoders; latents are not.
    """

    compiled = "model.loss"

    def __init__(
        self, kind: str, model: JointModel, modalities: Mapping[str, Modality], on_latents: bool
    ) -> None:
        super().__init__()
        self.kind = kind
        self.model = model
        self.modalities = dict(modalities)
        self.on_latents = on_latents

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch of "item/NAME" and "present"; it has no parts."""
        present, items = batch["present"], {}
        for index, (name, modality) in enumerate(self.modalities.items()):
            x = batch[f"item/{name}"]
            if self.training and not self.on_latents:
                recorded = present[:, index].reshape(-1, *[1] * (x.ndim - 1))
                x = torch.where(recorded, modality.augment(x, generator), x)
            items[name] = x
        with plugin_call(f"method {self.kind!r}: loss"):
            loss = self.model.loss(items, present)
        return loss.float(), {}


class PluginMethod(JointMethod):
    """Trains and loads a plugin's joint model. SpecError if it does not support the modalities."""

    def __init__(
        self, spec: MethodSpec, registry: Registry, modalities: Mapping[str, Modality]
    ) -> None:
        self.title = f"method {spec.method!r}"
        self.spec = spec
        self.modalities = modalities
        method_class = registry.method(spec.method)
        assert isinstance(spec.config, MethodConfig)
        try:
            self.method = method_class(spec.config, modalities)
        except ValueError as error:
            raise SpecError(f"diffuse.method: {spec.method}: {error}") from error
        self.needs_complete = self.method.needs_complete
        self.on_latents = self.method.on_latents

    def network(self) -> JointModel:
        """A new joint model, with autoencoders of its own unless it works on latents."""
        trained = {} if self.on_latents else self.modalities
        autoencoders = {name: build_autoencoder(name, each) for name, each in trained.items()}
        with plugin_call(f"{self.title}: model"):
            return self.method.model(autoencoders)

    def evaluations_per_sample(self, given: Sequence[str]) -> float:
        """One pass of the model."""
        return 1.0

    def job(self, data: Data, latents: LatentCache, context: RunContext) -> TrainJob:
        """On items or latents, of a model that is fitted to the training rows."""
        spec = self.spec
        if self.on_latents:
            rows = self._latent_rows(latents.train, latents)
            validation = self._latent_rows(latents.validation, latents)
        else:
            rows, validation = self._item_rows(data.train), self._item_rows(data.validation)
        model = context.seeded_init(lambda: self._fitted(rows), DIFFUSE.name)
        plugins = (self.method, *self.modalities.values())
        key: dict[str, JsonValue] = {
            "spec": deciding_settings(spec),
            "plugins": [*sorted(code_digest(type(plugin).__module__) for plugin in plugins)],
            "modalities": {
                name: [modality.kind, modality.config.model_dump(mode="json"), dict(modality.facts)]
                for name, modality in self.modalities.items()
            },
            "core": code_digest("mld_core"),
            "libraries": {name: installed_version(name) for name in self.method.libraries},
        }
        if references := references_of(dict(model.autoencoders.items())):
            key[REFERENCES] = references
        objective = self._objective(model)
        config = TrainConfig.of_network(spec)
        return TrainJob(DIFFUSE.name, objective, rows, validation, config, key)

    def _fitted(self, rows: Rows) -> JointModel:
        model = self.network()
        if type(model).fit is not JointModel.fit:
            items = {name: rows[f"item/{name}"][:] for name in self.modalities}
            with torch.no_grad(), plugin_call(f"{self.title}: fit"):
                model.fit(items, rows["present"][:])
        return model

    def _objective(self, model: JointModel) -> MethodObjective:
        return MethodObjective(self.spec.method, model, self.modalities, self.on_latents)

    def _item_rows(self, split: SplitRows) -> Rows:
        usable = self.usable(split.present)
        items = {f"item/{name}": x.select(usable) for name, x in split.items.items()}
        return {**items, "present": split.present[usable]}

    def _latent_rows(self, split: SplitLatents, latents: LatentCache) -> Rows:
        z = latent_rows(latents, split, self.usable(split.present))
        parts = {f"item/{name}": replace(z, name=name) for name in latents.layout.names}
        return {**parts, "present": z.present}

    def save(self, trained: TrainedWeights, latents: LatentCache, run_dir: RunDir) -> list[Path]:
        """The model's weights, with the standardiser of latents that it works on."""
        statistics = standardiser_tensors(latents.standardiser) if self.on_latents else {}
        run_dir.write_tensors(run_dir.network, {**trained.weights, **statistics})
        return [run_dir.network]

    def load(self, autoencoders: Mapping[str, Autoencoder], context: RunContext) -> PluginGenerator:
        """The joint model, on the run's device.

        Its samples are decoded by its own autoencoders, if it has them.
        """
        model = context.seeded_init(self.network, DIFFUSE.name)
        scales: dict[str, Standardiser] = {}
        tensors = context.run_dir.read_tensors(context.run_dir.network)
        with context.run_dir.content_of(context.run_dir.network):
            if self.on_latents:
                layout = layout_of(self.modalities)
                scales = pop_standardiser(tensors, layout).by_modality(layout)
            # Saved names have the objective's prefix, "model.".
            self._objective(model).load_state_dict(tensors)
        model = place(model.eval(), context.compute.device)
        if self.on_latents:
            return LatentPluginGenerator(self.spec.method, model, autoencoders, scales)
        trained: dict[str, Any] = dict(model.autoencoders.items())
        return PluginGenerator(self.spec.method, model, trained)


class PluginGenerator(JointGenerator):
    """A plugin's joint model of items; a sample depends on its whole batch."""

    def __init__(self, kind: str, model: JointModel, decoders: Mapping[str, Autoencoder]) -> None:
        self.kind = kind
        self.model = model
        self.decoders = decoders
        self.scales: Mapping[str, Standardiser] = {}

    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """One pass of the model. PluginError if it breaks its contract."""
        given = {name: x[:] for name, x in conditioning.items.items()}
        return LatentSamples(self._sample(given, wanted, seeds), 1.0)

    @torch.no_grad()
    def _sample(
        self, given: Mapping[str, Tensor], wanted: Sequence[str], seeds: Sequence[int]
    ) -> dict[str, Float[Tensor, "row _"]]:
        device = device_of(self.model)
        given = {name: x.to(device) for name, x in given.items()}
        with torch.random.fork_rng():
            torch.manual_seed(derive(0, "draw", *seeds))
            with plugin_call(f"method {self.kind!r}: sample"):
                latents = self.model.sample(given, wanted, len(seeds))
        for name in wanted:
            if name not in latents or len(latents[name]) != len(seeds):
                message = f"sample did not return {len(seeds)} rows of {name!r}"
                raise PluginError(f"method {self.kind!r}: {message}")
        return {name: latents[name].float().cpu() for name in wanted}


class LatentPluginGenerator(PluginGenerator):
    """A plugin's joint model of standardised latents.

    Args:
        scales: the statistics of each modality's latent.
    """

    def __init__(
        self,
        kind: str,
        model: JointModel,
        decoders: Mapping[str, Autoencoder],
        scales: Mapping[str, Standardiser],
    ) -> None:
        super().__init__(kind, model, decoders)
        self.scales = scales

    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """Raw latents; what never varies in the training rows does not in samples either."""
        given = {name: self.scales[name].standardise(z) for name, z in conditioning.latents.items()}
        samples = {
            name: self.scales[name].unstandardise(torch.where(self.scales[name].dead, 0.0, z))
            for name, z in self._sample(given, wanted, seeds).items()
        }
        return LatentSamples(samples, 1.0)
