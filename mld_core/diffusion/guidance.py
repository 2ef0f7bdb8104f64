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
from jaxtyping import Float, Int64
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.networks import PredictNoise
from mld_core.diffusion.roles import Role


@dataclass(frozen=True)
class Guidance:
    """Guidance weights; 0 is no guidance, and large weights reduce diversity.

    Negative ones temper the dependence: samples of a network that is too sure get wider. At −1
    there is no dependence left.

    Args:
        conditional: w_c, of the observed modalities, at least −1.
        joint: w_j, of the generated modalities on each other, at least −1.
        interval: first and last time with guidance, in [0, 1].
    """

    conditional: float = 1.0
    joint: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.conditional, self.joint) < -1:
            raise ValueError(f"guidance weights must be at least -1, not {self}")
        if not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"an interval of times must rise within [0, 1], not {self.interval}")


@dataclass(frozen=True)
class GuidedNoise:
    """A predict_noise that adds guidance to another; all terms are computed in one network call.

    All rows have the same roles and times. Equal terms are computed once, so a row costs less if
    nothing is observed or only one modality is generated.

    Args:
        predict_noise: a network that has marginals.
        absent_fill: the content of absent latents, as in training.
    """

    predict_noise: PredictNoise
    layout: LatentLayout
    guidance: Guidance
    absent_fill: Float[Tensor, "batch joint"]

    def __call__(
        self,
        z: Float[Tensor, "batch joint"],
        times: Float[Tensor, "1 modality"],
        roles: Int64[Tensor, "1 modality"],
    ) -> Float[Tensor, "batch joint"]:
        """The guided noise; 0 where nothing is generated."""
        first, last = self.guidance.interval
        guided = bool(((roles == Role.GENERATED) & (times >= first) & (times <= last)).any())
        terms = list(self._terms(roles[0].tolist(), guided))
        term_roles = torch.tensor([term for term, _ in terms], device=z.device)[:, None]
        weights = z.new_tensor([weight for _, weight in terms])[:, None, None]
        absent = term_roles == Role.ABSENT
        eps = self.predict_noise(
            torch.where(self.layout.expand(absent), self.absent_fill, z),
            torch.where(absent, 1.0, times),
            term_roles,
        )
        generated = self.layout.expand(term_roles == Role.GENERATED)
        return torch.where(generated, weights * eps, 0.0).sum(0)

    def _terms(self, roles: list[int], guided: bool) -> Iterator[tuple[list[int], float]]:
        """Roles and weight of each term: ε(G|O), then ε(G|∅), then each ε(i|∅).

        Terms of weight 0 are left out.
        """
        w_c, w_j = self.guidance.conditional, self.guidance.joint
        generated = [index for index, role in enumerate(roles) if role == Role.GENERATED]
        conditional = guided and Role.OBSERVED in roles
        several = guided and len(generated) > 1

        def unconditional(*indices: int) -> list[int]:
            return [
                int(Role.GENERATED if index in indices else Role.ABSENT)
                for index in range(len(roles))
            ]

        yield roles, 1 + (w_c if conditional else w_j if several else 0.0)
        if conditional and several and w_c != w_j:
            yield unconditional(*generated), w_j - w_c
        weight = -w_j if several else -w_c if conditional else 0.0
        for index in generated if weight else ():
            yield unconditional(index), weight
