"""Stage 3: the latent cache to a trained score network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from mld.config.sections import DiffuseSpec
from mld.data.types import LatentCache, SplitLatents
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest, tensor_digest
from mld.training.cached import train_cached
from mld.training.train import Objective
from mld_core import DataError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.diffusion.networks import NETWORKS
from mld_core.diffusion.per_subset import PerSubsetMLPs
from mld_core.diffusion.roles import draw_roles, row_sampling_weights
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

STAGE = "diffuse"


class Denoising(Objective):
    """The multi-time masked loss of standardised joint latents."""

    def __init__(
        self, spec: DiffuseSpec, layout: LatentLayout, schedule: VPSchedule, network: nn.Module
    ) -> None:
        super().__init__()
        self.spec = spec
        self.layout = layout
        self.schedule = schedule
        self.network = network

    def sampling_weights(self, rows: Mapping[str, Tensor]) -> Float[Tensor, " row"] | None:
        """In proportion to what a row can teach, where rows are incomplete."""
        present = rows["present"]
        return None if bool(present.all()) else row_sampling_weights(present)

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch of "z" and "present", and its parts by modality."""
        z, present = batch["z"], batch["present"]
        independent = self.spec.roles == "independent"
        p_conditional = self.spec.p_conditional or 0.0
        roles = draw_roles(self.spec.roles, present, generator, p_conditional)
        clocks = present.shape[1] if independent else 1
        t = torch.stack(
            [draw_times(len(z), self.schedule, generator) for _ in range(clocks)], dim=1
        )
        times = multi_time_vector(t, roles)
        eps = torch.randn(z.shape, generator=generator, device=z.device)
        blank = eps if independent else torch.zeros_like(z)
        noisy = diffuse(z, eps, times, roles, blank, self.layout, self.schedule)
        eps_hat = self.network(noisy, times, roles)
        return masked_loss(eps_hat, eps, times, roles, self.layout, self.schedule)


def build_network(spec: DiffuseSpec, layout: LatentLayout, schedule: VPSchedule) -> nn.Module:
    """A fresh score network as the spec describes it."""
    settings = spec.network.model_dump(exclude={"kind"})
    reads_roles = spec.roles != "independent"
    kinds = {**NETWORKS, "per-subset": PerSubsetMLPs}
    return kinds[spec.network.kind](layout, schedule, **settings, reads_roles=reads_roles)


def train_diffusion(spec: DiffuseSpec, latents: LatentCache, context: RunContext) -> ScoreModel:
    """The trained score network, its averaged weights in use."""
    run_dir, layout = context.run_dir, latents.layout
    fingerprint = context.fingerprint(STAGE, spec)
    if run_dir.read_back(STAGE, fingerprint):
        return load_model(spec, layout, context)
    with run_dir.stage(STAGE) as seconds:
        schedule = VPSchedule(spec.beta_min, spec.beta_max)
        network = context.fresh(lambda: build_network(spec, layout, schedule), STAGE)
        rows, dropped = _training_rows(latents.train, latents, spec)
        held_out, _ = _training_rows(latents.validation, latents, spec)
        if not len(rows["z"]):
            raise DataError(f"stage {STAGE}: no training row is complete; roles: paper needs some")
        if dropped:
            told = f"roles: paper needs complete rows: {dropped} incomplete rows are left out"
            run_dir.log("warning", stage=STAGE, message=told)
        key = {
            "spec": spec.model_dump(mode="json"),
            "dims": dict(layout.dims),
            "code": code_digest("mld_core"),
            "latents": tensor_digest(*rows.values()),
        }
        objective = Denoising(spec, layout, schedule, network)
        trained = train_cached(context, STAGE, objective, rows, held_out, spec, key, spec.ema_decay)
        standardiser = vars(latents.standardiser)
        for path, weights in (run_dir.network, trained.weights), (run_dir.ema, trained.ema or {}):
            run_dir.write_tensors(
                path,
                {
                    **weights,
                    **{f"standardiser.{key}": value for key, value in standardiser.items()},
                },
            )
        parameters = sum(p.numel() for p in network.parameters())
        run_dir.finish(
            STAGE,
            fingerprint,
            [run_dir.network, run_dir.ema],
            seconds(),
            {"parameters": parameters, "dropped": dropped},
        )
        run_dir.checkpoint(STAGE).unlink(missing_ok=True)
    return load_model(spec, layout, context)


def load_model(spec: DiffuseSpec, layout: LatentLayout, context: RunContext) -> ScoreModel:
    """The score model of a run that has trained it; its standardiser comes with the weights."""
    schedule = VPSchedule(spec.beta_min, spec.beta_max)
    network = context.fresh(lambda: build_network(spec, layout, schedule), STAGE)
    weights = context.run_dir.read_tensors(context.run_dir.ema)
    statistics = {key: weights.pop(f"standardiser.{key}") for key in ("mean", "std", "dead")}
    objective = Denoising(spec, layout, schedule, network)
    objective.load_state_dict(weights)
    device = torch.device(context.compute.accelerator)
    network.to(device).eval()
    return ScoreModel(network, layout, schedule, Standardiser(**statistics), spec.roles, device)


def _training_rows(
    rows: SplitLatents, latents: LatentCache, spec: DiffuseSpec
) -> tuple[dict[str, Tensor], int]:
    """Standardised rows fit for the spec's roles, and how many were left out."""
    fit = rows.present.all(1) if spec.roles == "paper" else rows.present.any(1)
    z = latents.standardiser.standardise(rows.z)[fit]
    present = rows.present[fit]
    z = torch.where(latents.layout.expand(present), z, 0.0)
    return {"z": z, "present": present}, int((~fit).sum())
