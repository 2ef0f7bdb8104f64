"""Conditional sampling of latents by a trained score network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld_core.diffusion.guidance import Guidance, GuidedNoise
from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.reverse_process import ReverseProcess, RowNoise
from mld_core.diffusion.role_schemes import RoleScheme, has_marginals
from mld_core.diffusion.roles import Role, roles_for
from mld_core.diffusion.samplers import SAMPLERS
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser


@dataclass(frozen=True)
class ScoreModel:
    """A trained score network with all that is needed to use it.

    Args:
        predict_noise: the network, on standardised latents, in eval mode.
        scheme: the role scheme of its training.
        device: of the network.
    """

    predict_noise: PredictNoise
    layout: LatentLayout
    schedule: VPSchedule
    standardiser: Standardiser
    scheme: RoleScheme
    device: torch.device

    @property
    def has_marginals(self) -> bool:
        """Whether the network can predict modalities with the others marginalised out."""
        return has_marginals(self.scheme)


@dataclass(frozen=True)
class LatentSamples:
    """Sampled raw latents, and their cost.

    Args:
        latents: of the observed and wanted modalities; observed ones are returned bit for bit.
        nfe: network evaluations per sample; each term of guidance counts as one.
    """

    latents: dict[str, Float[Tensor, "batch _"]]
    nfe: float


@torch.no_grad()
def sample_latents(
    model: ScoreModel,
    observed: Mapping[str, Float[Tensor, "batch _"]],
    wanted: Sequence[str],
    seeds: Sequence[int],
    sampler: str = "dpm-solver++",
    steps: int = 20,
    guidance: Guidance = Guidance(),  # noqa: B008  (frozen)
) -> LatentSamples:
    """Samples of the `wanted` modalities given `observed` raw latents, one per seed.

    A sample depends only on its seed and its observed row, not on its batch (up to rounding).
    ValueError if the model cannot serve the request.

    Args:
        observed: latents by modality, one row per seed; may be empty.
        wanted: modalities to generate, at least one, none of them observed.
        seeds: one per sample.
        sampler: a key of SAMPLERS.
        steps: number of solver steps.
        guidance: must be 0 for a model without marginals.
    """
    _check_request(model, observed, wanted, seeds, sampler, guidance)
    layout, n = model.layout, len(seeds)
    roles = roles_for(layout.names, list(observed), wanted, model.scheme)[None]
    given = {name: observed.get(name, torch.zeros(n, dim)) for name, dim in layout.dims.items()}
    z, nfe = _sample(model, layout.concatenate(given), roles, seeds, sampler, steps, guidance)
    sampled = layout.split(z)
    latents = {
        name: observed[name] if name in observed else sampled[name]
        for name in layout.names
        if name in observed or name in wanted
    }
    return LatentSamples(latents, nfe)


@torch.no_grad()
def sample_missing(
    model: ScoreModel,
    z: Float[Tensor, "row joint"],
    observed: Bool[Tensor, "row modality"],
    wanted: Bool[Tensor, "row modality"],
    seeds: Sequence[int],
    sampler: str = "dpm-solver++",
    steps: int = 20,
) -> Float[Tensor, "row joint"]:
    """Raw latents of rows in which other modalities are observed and wanted in each.

    As `sample_latents` without guidance, which takes rows that have the same ones. ValueError if
    the model cannot serve the request.

    Args:
        z: raw latents; those that are not observed are ignored.
        observed, wanted: modalities in the order of the layout, never both.
        seeds: one per row.
    """
    if bool((observed & wanted).any()) or not bool(wanted.any(1).all()):
        raise ValueError("in each row a modality must be wanted, and none of the observed ones")
    check_settings(model, sampler, Guidance(0.0, 0.0), is_conditional=bool(observed.any()))
    other = Role.ABSENT if model.has_marginals else Role.GENERATED
    roles = torch.where(wanted, Role.GENERATED, torch.where(observed, Role.OBSERVED, other))
    known = torch.where(model.layout.expand(observed), z, 0.0)
    sampled, _ = _sample(model, known, roles, seeds, sampler, steps, Guidance(0.0, 0.0))
    return torch.where(model.layout.expand(observed), z, sampled)


def _sample(
    model: ScoreModel,
    observed_or_zero: Float[Tensor, "row joint"],
    roles: Int64[Tensor, "#row modality"],
    seeds: Sequence[int],
    sampler: str,
    steps: int,
    guidance: Guidance,
) -> tuple[Float[Tensor, "row joint"], float]:
    """Raw latents of all modalities, and the network evaluations per row."""
    layout, roles = model.layout, roles.to(model.device)
    noise = RowNoise(seeds, layout.joint_dim, model.device)
    start = noise()
    # As in training: absent latents are pure noise with independent times, else zeros.
    absent_fill = noise() if model.scheme == "independent" else torch.zeros_like(start)
    clean = model.standardiser.standardise(observed_or_zero.to(model.device))
    role = layout.expand(roles)
    z = torch.where(role == Role.OBSERVED, clean, absent_fill)
    z = torch.where(role == Role.GENERATED, start, z)

    evaluations = 0

    def count_and_predict(z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        nonlocal evaluations
        evaluations += z.shape[:-1].numel()
        return model.predict_noise(z, times, roles)

    predict_noise: PredictNoise = count_and_predict
    if guidance.conditional or guidance.joint:
        predict_noise = GuidedNoise(predict_noise, layout, guidance, absent_fill)
    process = ReverseProcess(predict_noise, roles, layout, model.schedule)
    solver = SAMPLERS[sampler]
    z = solver.sample(process, z, solver.grid(model.schedule, steps), noise)
    return model.standardiser.unstandardise(z).cpu(), evaluations / len(seeds)


def _check_request(
    model: ScoreModel,
    observed: Mapping[str, Tensor],
    wanted: Sequence[str],
    seeds: Sequence[int],
    sampler: str,
    guidance: Guidance,
) -> None:
    names = model.layout.names
    unknown = [name for name in [*observed, *wanted] if name not in names]
    if unknown:
        raise ValueError(f"the model has modalities {', '.join(names)}, not {', '.join(unknown)}")
    if not seeds:
        raise ValueError("at least one seed is needed")
    overlap = [name for name in wanted if name in observed]
    if overlap or not wanted:
        raise ValueError(
            f"`wanted` must be non-empty and disjoint from `observed` (overlap: {overlap})"
        )
    counts = {name: len(latent) for name, latent in observed.items() if len(latent) != len(seeds)}
    if counts:
        raise ValueError(f"need one observed row per seed ({len(seeds)} seeds), got {counts}")
    check_settings(model, sampler, guidance, is_conditional=bool(observed))


def check_settings(
    model: ScoreModel, sampler: str, guidance: Guidance, is_conditional: bool
) -> None:
    """ValueError if the model cannot sample, given other modalities or not, with these settings."""
    if (guidance.conditional or guidance.joint) and not model.has_marginals:
        raise ValueError(
            f"a model trained with roles: {model.scheme} has no marginals, which guidance "
            "requires: set guidance to 0"
        )
    if model.scheme == "joint" and is_conditional and sampler != "inpaint":
        raise ValueError(
            "a model trained with roles: joint conditions only by in-painting: "
            f"sampler must be inpaint, not {sampler}"
        )
