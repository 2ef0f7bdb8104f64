"""Observed latents in, all wanted latents out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mld_core.diffusion.guidance import Guidance, GuidedNoise
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.reverse_process import ReverseProcess, RowNoise
from mld_core.diffusion.role_schemes import RoleScheme, has_marginals
from mld_core.diffusion.roles import Role, roles_for
from mld_core.diffusion.samplers import SAMPLERS
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser


@dataclass(frozen=True)
class ScoreModel:
    """A trained network with all that is needed to use it.

    Args:
        predict_noise: the network, on standardised latents, in eval mode.
        layout: of the joint latent.
        schedule: of the noise.
        standardiser: raw latents to standardised ones and back.
        scheme: how training drew its roles.
        device: where the network lives.
    """

    predict_noise: PredictNoise
    layout: LatentLayout
    schedule: VPSchedule
    standardiser: Standardiser
    scheme: RoleScheme
    device: torch.device

    @property
    def has_marginals(self) -> bool:
        """Whether the network predicts each modality with others marginalised out."""
        return has_marginals(self.scheme)


@dataclass(frozen=True)
class LatentSamples:
    """Raw latents of the modalities observed or wanted, and what they cost.

    Args:
        latents: modality name to latents; observed ones are the caller's, bit for bit.
        nfe: rows through the network per sample, stacked rows of guidance counted.
    """

    latents: dict[str, Float[Tensor, "batch _"]]
    nfe: float


class _Counted:
    """A predict_noise that counts its rows."""

    def __init__(self, predict_noise: PredictNoise) -> None:
        self._predict_noise = predict_noise
        self.rows = 0

    def __call__(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "batch modality"],
        roles: Int64[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch joint"]:
        self.rows += len(z)
        return self._predict_noise(z, times, roles)


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
    """Samples of `wanted` given `observed` raw latents, one per seed.

    A sample depends on its seed and its observed row alone, not on the batch it is made in (up to
    rounding). ValueError if the request and the model do not fit each other.

    Args:
        model: the trained network.
        observed: latents by name, one row per seed; may be empty.
        wanted: names to generate, at least one, none of them observed.
        seeds: one per sample.
        sampler: a name in SAMPLERS.
        steps: of the solver.
        guidance: must be 0 for a model of the paper's or the joint scheme, without marginals.
    """
    _check_request(model, observed, wanted, seeds, sampler, guidance)
    layout, n = model.layout, len(seeds)
    roles = roles_for(layout.names, list(observed), wanted, model.scheme)
    roles = roles.to(model.device).expand(n, -1)
    noise = RowNoise(seeds, layout.joint_dim, model.device)

    start = noise()
    blank = noise() if model.scheme == "independent" else torch.zeros_like(start)
    known = model.standardiser.standardise(_fill(layout, observed, n).to(model.device))
    role = layout.expand(roles)
    z = torch.where(role == Role.GENERATED, start, torch.where(role == Role.OBSERVED, known, blank))

    counted = _Counted(model.predict_noise)
    predict_noise: PredictNoise = counted
    if guidance.conditional or guidance.joint:
        predict_noise = GuidedNoise(counted, layout, guidance, blank)
    process = ReverseProcess(predict_noise, roles, layout, model.schedule)
    method = SAMPLERS[sampler]
    z = method.sample(process, z, method.grid(model.schedule, steps), noise)

    latents = layout.split(model.standardiser.restore(z).cpu())
    kept = {
        name: observed[name] if name in observed else latents[name]
        for name in layout.names
        if name in observed or name in wanted
    }
    return LatentSamples(kept, counted.rows / n)


def _fill(
    layout: LatentLayout, observed: Mapping[str, Tensor], rows: int
) -> Float[Tensor, "batch joint"]:
    """The joint latent with zeros for what is not observed."""
    return layout.concatenate(
        {name: observed.get(name, torch.zeros(rows, dim)) for name, dim in layout.dims.items()}
    )


def _check_request(
    model: ScoreModel,
    observed: Mapping[str, Tensor],
    wanted: Sequence[str],
    seeds: Sequence[int],
    sampler: str,
    guidance: Guidance,
) -> None:
    names = model.layout.names
    foreign = [name for name in [*observed, *wanted] if name not in names]
    if foreign:
        raise ValueError(f"the model knows {', '.join(names)}, not {', '.join(foreign)}")
    both = [name for name in wanted if name in observed]
    if both or not wanted or not seeds:
        raise ValueError(f"want at least one sample of something not given (given too: {both})")
    uneven = [name for name, latent in observed.items() if len(latent) != len(seeds)]
    if uneven:
        raise ValueError(f"need one observed row per seed, {len(seeds)}; uneven: {uneven}")
    if not model.has_marginals and (guidance.conditional or guidance.joint):
        told = f"roles: {model.scheme} teaches no marginals, which guidance needs: set it to 0"
        raise ValueError(told)
    if model.scheme == "joint" and observed and sampler != "inpaint":
        raise ValueError(f"roles: joint can only paint in what is observed: not by {sampler}")
