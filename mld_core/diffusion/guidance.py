"""Guidance: away from what each generated modality would be on its own, or without the observed.

For generated modalities G and observed ones O, "given nothing" meaning that all others are absent,

    ε = ε(G|O) + w_c [ε(G|O) − ε(G|∅)] + w_j [ε(G|∅) − (ε(i|∅))_i∈G].

w_c pulls the sample towards what was given (classifier-free guidance, Ho and Salimans 2022) and
w_j pulls the generated modalities towards each other. With w_c = w_j the middle term cancels. All
terms come from one network that knows every marginal. Outside an interval of times there need be no
guidance (Kynkäänniemi et al. 2024), which costs less: early it only narrows what can come, and late
everything is decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.roles import Role


@dataclass(frozen=True)
class Guidance:
    """The strengths of guidance; 0 is none, and too much costs diversity.

    Args:
        conditional: w_c, towards what was observed, at least 0.
        joint: w_j, of the generated modalities towards each other, at least 0.
        interval: the times at which to guide, from and to, in [0, 1].
    """

    conditional: float = 1.0
    joint: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.conditional, self.joint) < 0:
            raise ValueError(f"guidance must be at least 0, not {self}")
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"an interval of times goes from 0 to 1 at most, not {self.interval}")


@dataclass(frozen=True)
class _Term:
    """One ε of the formula: the rows that need it, their roles in it, and its weight in each."""

    rows: Int64[Tensor, " row"]
    roles: Int64[Tensor, "row modality"]
    weight: Float[Tensor, " row"]


@dataclass(frozen=True)
class GuidedNoise:
    """A predict_noise that adds guidance to another; all its terms are one call of the network.

    Rows may have different roles. Equal terms are asked for once: with nothing observed, or one
    modality generated, a row costs less.

    Args:
        predict_noise: the network, trained so that it knows marginals.
        layout: of the joint latent.
        guidance: the strengths.
        blank: what stands in for absent latents, as in training.
    """

    predict_noise: PredictNoise
    layout: LatentLayout
    guidance: Guidance
    blank: Float[Tensor, "batch joint"]

    def __call__(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "batch modality"],
        roles: Int64[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch joint"]:
        """The guided noise; 0 where nothing is generated."""
        first, last = self.guidance.interval
        guided = ((roles == Role.GENERATED) & (times >= first) & (times <= last)).any(1)
        terms = [term for term in self._terms(roles, guided) if len(term.rows)]
        rows = torch.cat([term.rows for term in terms])
        asked = torch.cat([term.roles for term in terms])
        absent = asked == Role.ABSENT
        answers = self.predict_noise(
            torch.where(self.layout.expand(absent), self.blank[rows], z[rows]),
            torch.where(absent, 1.0, times[rows]),
            asked,
        )
        weight = torch.cat([term.weight for term in terms])[:, None]
        weighted = torch.where(self.layout.expand(asked == Role.GENERATED), weight * answers, 0.0)
        return torch.zeros_like(z).index_add_(0, rows, weighted)

    def _terms(
        self, roles: Int64[Tensor, "batch modality"], guided: Bool[Tensor, " batch"]
    ) -> Iterator[_Term]:
        w_c, w_j = self.guidance.conditional, self.guidance.joint
        generated = roles == Role.GENERATED
        given = (roles == Role.OBSERVED).any(1) & guided
        several = (generated.sum(1) > 1) & guided

        everyone = torch.arange(len(roles), device=roles.device)
        own = torch.where(given, 1 + w_c, torch.where(several, 1 + w_j, 1.0))
        yield _Term(everyone, roles, own)
        if w_c != w_j:
            rows = everyone[given & several]
            alone = torch.where(generated, Role.GENERATED, Role.ABSENT)[rows]
            yield _Term(rows, alone, torch.full_like(own, w_j - w_c)[rows])
        for index in range(roles.shape[1]):
            back = torch.where(several, -w_j, torch.where(given, -w_c, 0.0))
            rows = everyone[generated[:, index] & (back != 0)]
            single = torch.full_like(roles, int(Role.ABSENT))[rows]
            single[:, index] = Role.GENERATED
            yield _Term(rows, single, back[rows])
