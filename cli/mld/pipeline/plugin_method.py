"""The method of a plugin: its joint model, trained on rows of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import JsonValue
from torch import Generator, Tensor

from mld.config.sections import MethodSpec
from mld.data.loading import Data, SplitTensors
from mld.data.types import LatentCache
from mld.pipeline.joint_method import Conditioning, JointGenerator, JointMethod
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld.storage.digests import code_digest
from mld.storage.run_dir import RunDir
from mld.storage.stages import DIFFUSE
from mld.training.job import Objective, TrainConfig, TrainJob
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
from mld_core.plugins.discovery import installed_version


class MethodObjective(Objective):
    """A joint model's own loss on rows of items, augmented as for the autoencoders."""

    def __init__(self, kind: str, model: JointModel, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.kind = kind
        self.model = model
        self.modalities = dict(modalities)

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch of "item/NAME" and "present"; it has no parts."""
        present, items = batch["present"], {}
        for index, (name, modality) in enumerate(self.modalities.items()):
            x = batch[f"item/{name}"]
            if self.training:
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

    def network(self) -> JointModel:
        """A new joint model, with autoencoders of its own."""
        autoencoders = {name: each.autoencoder() for name, each in self.modalities.items()}
        with plugin_call(f"{self.title}: model"):
            return self.method.model(autoencoders)

    def evaluations_per_sample(self, given: Sequence[str]) -> float:
        """One pass of the model."""
        return 1.0

    def job(self, data: Data, latents: LatentCache, context: RunContext) -> TrainJob:
        """On items."""
        spec = self.spec
        model = context.seeded_init(self.network, DIFFUSE.name)
        rows, validation = self._usable_rows(data.train), self._usable_rows(data.validation)
        plugins = (self.method, *self.modalities.values())
        key: dict[str, JsonValue] = {
            "spec": spec.model_dump(mode="json"),
            "plugins": [*sorted(code_digest(type(plugin).__module__) for plugin in plugins)],
            "modalities": {
                name: [modality.kind, modality.config.model_dump(mode="json"), dict(modality.facts)]
                for name, modality in self.modalities.items()
            },
            "core": code_digest("mld_core"),
            "libraries": {name: installed_version(name) for name in self.method.libraries},
        }
        objective = MethodObjective(spec.method, model, self.modalities)
        config = TrainConfig(spec.steps, spec.batch_size, spec.learning_rate)
        return TrainJob(DIFFUSE.name, objective, rows, validation, config, key)

    def _usable_rows(self, split: SplitTensors) -> dict[str, Tensor]:
        usable = self.usable(split.present)
        items = {f"item/{name}": x[usable] for name, x in split.items.items()}
        return {**items, "present": split.present[usable]}

    def save(self, trained: TrainedWeights, latents: LatentCache, run_dir: RunDir) -> list[Path]:
        """The model's weights."""
        run_dir.write_tensors(run_dir.network, trained.weights)
        return [run_dir.network]

    def load(self, autoencoders: Mapping[str, Autoencoder], context: RunContext) -> PluginGenerator:
        """The joint model, which has autoencoders of its own."""
        model = context.seeded_init(self.network, DIFFUSE.name)
        # Saved names have the objective's prefix, "model.".
        objective = MethodObjective(self.spec.method, model, self.modalities)
        context.run_dir.load_weights(objective, context.run_dir.network)
        return PluginGenerator(self.spec.method, model.eval())


class PluginGenerator(JointGenerator):
    """A plugin's joint model; a sample depends on its whole batch."""

    def __init__(self, kind: str, model: JointModel) -> None:
        self.kind = kind
        self.model = model
        self.decoders = dict(model.autoencoders.items())  # type: ignore[arg-type]

    @torch.no_grad()
    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """One pass of the model. PluginError if it breaks its contract."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(0, "draw", *seeds))
            with plugin_call(f"method {self.kind!r}: sample"):
                latents = self.model.sample(conditioning.items, wanted, len(seeds))
        for name in wanted:
            if name not in latents or len(latents[name]) != len(seeds):
                message = f"sample did not return {len(seeds)} rows of {name!r}"
                raise PluginError(f"method {self.kind!r}: {message}")
        return LatentSamples({name: latents[name].float() for name in wanted}, 1.0)
