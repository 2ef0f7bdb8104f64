"""mld's own method: a score network over the joint latent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from pydantic import JsonValue
from torch import Generator, Tensor, nn

from mld.config.sections import DiffuseSpec, GenerateSpec, GuidanceSpec
from mld.data.latent_rows import latent_rows
from mld.data.loading import Data
from mld.data.types import LatentCache, SplitLatents
from mld.pipeline.joint_method import (
    Conditioning,
    JointGenerator,
    JointMethod,
    check_finite,
    pop_standardiser,
    standardiser_tensors,
)
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest
from mld.storage.run_dir import RunDir
from mld.storage.stages import DIFFUSE
from mld.training.job import Objective, Rows, TrainConfig, TrainJob, deciding_settings
from mld.training.train import TrainedWeights
from mld_core import Autoencoder
from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.latent_layout import LatentLayout, usual_shift
from mld_core.diffusion.multi_time import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.diffusion.networks import NETWORKS
from mld_core.diffusion.networks.score_network import ScoreNetwork
from mld_core.diffusion.roles import draw_roles, row_sampling_weights
from mld_core.diffusion.sampling import (
    LatentSamples,
    ScoreModel,
    sample_latents,
    sample_missing,
)
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser
from mld_core.diffusion.warm_start import take_over


class DenoisingObjective(Objective):
    """The multi-time masked loss of standardised joint latents."""

    compiled = "network.forward"

    def __init__(
        self, spec: DiffuseSpec, layout: LatentLayout, schedule: VPSchedule, network: nn.Module
    ) -> None:
        super().__init__()
        self.spec = spec
        self.layout = layout
        self.schedule = schedule
        self.network = network

    def sampling_weights(self, rows: Rows) -> Float[Tensor, " row"] | None:
        """In proportion to the role assignments a row can teach, where rows are incomplete."""
        present = rows["present"]
        assert isinstance(present, Tensor)
        return None if bool(present.all()) else row_sampling_weights(present)

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch of "z" and "present", and its parts by modality."""
        z, present = batch["z"], batch["present"]
        spec = self.spec
        independent = spec.roles == "independent"
        # None unless roles: paper; other schemes ignore it.
        p_conditional = spec.p_conditional or 0.0
        roles = draw_roles(spec.roles, present, generator, p_conditional, spec.purpose)
        times_per_row = present.shape[1] if independent else 1
        t = torch.stack(
            [
                draw_times(len(z), self.schedule, generator, spec.purpose)
                for _ in range(times_per_row)
            ],
            dim=1,
        )
        times = multi_time_vector(t, roles)
        eps = torch.randn(z.shape, generator=generator, device=z.device)
        absent_fill = eps if independent else torch.zeros_like(z)
        noisy = diffuse(z, eps, times, roles, absent_fill, self.layout, self.schedule)
        eps_hat = self.network(noisy, times, roles)
        return masked_loss(eps_hat, eps, times, roles, self.layout, self.schedule, spec.balance)


def build_network(spec: DiffuseSpec, layout: LatentLayout, schedule: VPSchedule) -> nn.Module:
    """A new score network, as the spec describes it."""
    settings = spec.network.model_dump(exclude={"kind"})
    reads_roles = spec.roles != "independent"
    return NETWORKS[spec.network.kind](layout, schedule, **settings, reads_roles=reads_roles)


class DiffusionMethod(JointMethod):
    """Trains and loads a score network.

    Args:
        sampling: how the trained network samples.
        earlier: the model that is trained further, of some of the modalities or all.
    """

    on_latents = True

    def __init__(
        self,
        spec: DiffuseSpec,
        sampling: GenerateSpec,
        layout: LatentLayout,
        earlier: ScoreModel | None = None,
    ) -> None:
        self.title = f"roles: {spec.roles}"
        self.needs_complete = spec.roles == "paper"
        self.spec = spec
        self.sampling = sampling
        usual = {name: usual_shift(shape) for name, shape in layout.shapes.items()}
        self.layout = replace(layout, shift={**usual, **spec.shift})
        self.earlier = earlier
        self.schedule = VPSchedule(spec.beta_min, spec.beta_max)

    def network(self) -> nn.Module:
        """A new score network."""
        return build_network(self.spec, self.layout, self.schedule)

    def evaluations_per_sample(self, given: Sequence[str]) -> float:
        """Counted by sampling from a network that returns its input."""
        layout = self.layout
        zeros, cpu = torch.zeros(layout.joint_dim), torch.device("cpu")
        identity = Standardiser(zeros, torch.ones(layout.joint_dim), zeros.bool())
        model = ScoreModel(
            lambda z, times, roles: z, layout, self.schedule, identity, self.spec.roles, cpu
        )
        latents = {name: torch.zeros(1, layout.dims[name]) for name in given}
        wanted = [name for name in layout.names if name not in given]
        generator = DiffusionGenerator(model, {}, self.sampling)
        return generator.sample(Conditioning({}, latents), wanted, [0]).nfe

    def job(self, data: Data, latents: LatentCache, context: RunContext) -> TrainJob:
        """On standardised latents."""
        spec = self.spec
        latents = self._scaled(latents)
        network = context.seeded_init(self.network, DIFFUSE.name)
        if self.earlier is not None:
            earlier = self.earlier.predict_noise
            assert isinstance(network, ScoreNetwork)
            assert isinstance(earlier, ScoreNetwork)
            take_over(network, earlier)
        rows = self._usable_rows(latents.train, latents)
        validation = self._usable_rows(latents.validation, latents)
        key: dict[str, JsonValue] = {
            "spec": deciding_settings(spec),
            "shapes": {name: [*shape] for name, shape in self.layout.shapes.items()},
            "core": code_digest("mld_core"),
        }
        if self.earlier is not None:
            key["start_from"] = context.sections["start_from"]
        objective = DenoisingObjective(spec, self.layout, self.schedule, network)
        config = TrainConfig(
            steps=spec.steps,
            batch_size=spec.batch_size,
            learning_rate=spec.learning_rate,
            ema_decay=spec.ema_decay,
            keep=spec.keep,
            patience=spec.patience,
            time_limit=spec.time_limit,
            micro_batch_size=spec.micro_batch_size,
        )
        return TrainJob(DIFFUSE.name, objective, rows, validation, config, key)

    def _usable_rows(self, split: SplitLatents, latents: LatentCache) -> Rows:
        z = latent_rows(latents, split, self.usable(split.present))
        return {"z": z, "present": z.present}

    def _scaled(self, latents: LatentCache) -> LatentCache:
        """With the statistics that the network knows, so that latents have the same scale."""
        standardiser = latents.standardiser.shifted(self.layout)
        if self.earlier is not None:
            known = self.earlier.standardiser.by_modality(self.earlier.layout)
            parts = {**standardiser.by_modality(self.layout), **known}
            standardiser = Standardiser.concatenate([parts[name] for name in self.layout.names])
        return replace(latents, standardiser=standardiser)

    def save(self, trained: TrainedWeights, latents: LatentCache, run_dir: RunDir) -> list[Path]:
        """The network and its average, each with the standardiser."""
        standardiser = standardiser_tensors(self._scaled(latents).standardiser)
        run_dir.write_tensors(run_dir.network, {**trained.weights, **standardiser})
        run_dir.write_tensors(run_dir.ema, {**(trained.ema or {}), **standardiser})
        return [run_dir.network, run_dir.ema]

    def load(
        self, autoencoders: Mapping[str, Autoencoder], context: RunContext
    ) -> DiffusionGenerator:
        """The score model with its averaged weights, on the run's device."""
        weights = context.run_dir.read_tensors(context.run_dir.ema)
        network = context.seeded_init(self.network, DIFFUSE.name)
        # Saved names have the objective's prefix, "network.".
        objective = DenoisingObjective(self.spec, self.layout, self.schedule, network)
        with context.run_dir.content_of(context.run_dir.ema):
            standardiser = pop_standardiser(weights, self.layout)
            objective.load_state_dict(weights)
        device = context.compute.device
        network.to(device).eval()
        model = ScoreModel(
            network, self.layout, self.schedule, standardiser, self.spec.roles, device
        )
        return DiffusionGenerator(model, autoencoders, self.sampling)


@dataclass(frozen=True)
class DiffusionGenerator(JointGenerator):
    """A score network with a sampler and guidance."""

    model: ScoreModel
    decoders: Mapping[str, Autoencoder]
    sampling: GenerateSpec

    @property
    def scales(self) -> Mapping[str, Standardiser]:  # type: ignore[override]
        """The statistics of the training latents by modality."""
        return self.model.standardiser.by_modality(self.model.layout)

    def sample_missing(
        self,
        conditioning: Conditioning,
        observed: Bool[Tensor, "row modality"],
        wanted: Bool[Tensor, "row modality"],
        seeds: Sequence[int],
    ) -> dict[str, Float[Tensor, "row _"]]:
        """As of any model, but all rows at once where they are not guided."""
        guidance = guidance_of(self.sampling.guidance)
        if guidance.conditional or guidance.joint:
            return super().sample_missing(conditioning, observed, wanted, seeds)
        z = self.model.layout.concatenate(conditioning.latents)
        sampler, steps = self.sampling.sampler, self.sampling.steps
        z = sample_missing(self.model, z, observed, wanted, seeds, sampler, steps)
        drawn = self.model.layout.split(z)
        for index, (name, latents) in enumerate(drawn.items()):
            check_finite(name, latents[wanted[:, index]], "the other cells")
        return drawn

    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        """As `sample_latents`; a sample depends on its seed and its row alone."""
        return sample_latents(
            self.model,
            conditioning.latents,
            wanted,
            seeds,
            self.sampling.sampler,
            self.sampling.steps,
            guidance_of(self.sampling.guidance),
        )


def guidance_of(spec: float | GuidanceSpec) -> Guidance:
    """Guidance from a spec: one strength for both parts, or one for each."""
    if isinstance(spec, GuidanceSpec):
        return Guidance(spec.conditional, spec.joint, spec.interval)
    return Guidance(float(spec), float(spec))
