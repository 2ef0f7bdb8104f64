"""Guidance of conditional and of joint generation by one network's own marginals.

For GENERATED modalities G and OBSERVED ones O, where ∅ means that all others are ABSENT,

    ε = ε(G|O) + w_c [ε(G|O) − ε(G|∅)] + w_j [ε(G|∅) − (ε(i|∅))_i∈G].

w_c strengthens the dependence on the observed modalities (classifier-free guidance, Ho and Salimans
2022), w_j that of the generated modalities on each other. With w_c = w_j, ε(G|∅) cancels and is
not computed. Guidance can be limited to an interval of times (Kynkäänniemi et al. 2024): at high
noise it mainly reduces diversity, at low noise it has little effect, and outside the interval it
costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.roles import Role


@dataclass(frozen=True)
class Guidance:
    """Guidance weights; 0 is no guidance, and large weights reduce diversity.

    Args:
        conditional: w_c, of the observed modalities, at least 0.
        joint: w_j, of the generated modalities on each other, at least 0.
        interval: first and last time with guidance, in [0, 1].
    """

    conditional: float = 1.0
    joint: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.conditional, self.joint) < 0:
            raise ValueError(f"guidance weights must be at least 0, not {self}")
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"an interval of times must rise within [0, 1], not {self.interval}")


_Term = tuple[Int64[Tensor, " row"], Int64[Tensor, "row modality"], Float[Tensor, " row"]]
"""One ε of the formula: the rows that need it (indices into the batch), their roles, weights."""


@dataclass(frozen=True)
class GuidedNoise:
    """A predict_noise that adds guidance to another; all terms are computed in one network call.

    Rows may have different roles. Equal terms are computed once, so a row costs less if nothing is
    observed or only one modality is generated.

    Args:
        predict_noise: a network that has marginals.
        absent_fill: the content of absent latents, as in training.
    """

    predict_noise: PredictNoise
    layout: LatentLayout
    guidance: Guidance
    absent_fill: JointLatent

    def __call__(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The guided noise; 0 where nothing is generated."""
        first, last = self.guidance.interval
        guided = ((roles == Role.GENERATED) & (times >= first) & (times <= last)).any(1)
        terms = zip(*self._terms(roles, guided), strict=True)
        rows, term_roles, weight = (torch.cat(parts) for parts in terms)
        absent = term_roles == Role.ABSENT
        eps = self.predict_noise(
            torch.where(self.layout.expand(absent), self.absent_fill[rows], z[rows]),
            torch.where(absent, 1.0, times[rows]),
            term_roles,
        )
        generated = self.layout.expand(term_roles == Role.GENERATED)
        weighted = torch.where(generated, weight[:, None] * eps, 0.0)
        return torch.zeros_like(z).index_add_(0, rows, weighted)

    def _terms(self, roles: Roles, guided: Bool[Tensor, " batch"]) -> Iterator[_Term]:
        """The terms with a non-zero weight: ε(G|O), then ε(G|∅), then each ε(i|∅)."""
        w_c, w_j = self.guidance.conditional, self.guidance.joint
        generated = roles == Role.GENERATED
        conditional = (roles == Role.OBSERVED).any(1) & guided
        several = (generated.sum(1) > 1) & guided

        all_rows = torch.arange(len(roles), device=roles.device)
        weight = torch.where(conditional, 1 + w_c, torch.where(several, 1 + w_j, 1.0))
        yield all_rows, roles, weight
        if w_c != w_j:
            rows = all_rows[conditional & several]
            unconditional = torch.where(generated, Role.GENERATED, Role.ABSENT)[rows]
            yield rows, unconditional, torch.full_like(weight, w_j - w_c)[rows]
        for index in range(roles.shape[1]):
            weight = torch.where(several, -w_j, torch.where(conditional, -w_c, 0.0))
            rows = all_rows[generated[:, index] & (weight != 0)]
            single = torch.full_like(roles, int(Role.ABSENT))[rows]
            single[:, index] = Role.GENERATED
            yield rows, single, weight[rows]
