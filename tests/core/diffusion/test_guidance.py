from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mld_core.diffusion.guidance import Guidance, GuidedNoise
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.roles import Role

G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
PATTERNS = [[G, G, G], [G, O, G], [O, A, G], [A, G, A], [G, A, G], [O, O, G], [O, A, A]]


def guided_by_the_formula(
    gaussian: Any, z: Tensor, t: float, pattern: list[int], w: Guidance
) -> Tensor:
    """The three terms of the formula, each predicted by itself."""

    def predict(roles: list[int]) -> Tensor:
        row = torch.tensor([roles])
        eps = gaussian.predict_noise(z, multi_time_vector(torch.tensor([[t]]).double(), row), row)
        return torch.where(gaussian.layout.expand(row) == G, eps, 0.0)

    generated = [i for i, role in enumerate(pattern) if role == G]
    given = predict(pattern)
    nothing = predict([G if i in generated else A for i in range(3)])
    alone = sum(
        (predict([G if j == i else A for j in range(3)]) for i in generated), torch.zeros_like(z)
    )
    return given + w.conditional * (given - nothing) + w.joint * (nothing - alone)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.0), (0.0, 2.0), (0.5, 1.5), (0.0, 0.0)])
def test_guidance_matches_its_formula(gaussian: Any, weights: tuple[float, float]) -> None:
    guidance = Guidance(*weights)
    z = torch.randn(5, 6, dtype=torch.float64)
    guide = GuidedNoise(gaussian.predict_noise, gaussian.layout, guidance, torch.zeros_like(z))
    for pattern in PATTERNS:
        roles = torch.tensor([pattern])
        guided = guide(z, multi_time_vector(torch.tensor([[0.3]]).double(), roles), roles)
        expected = guided_by_the_formula(gaussian, z, 0.3, pattern, guidance)
        torch.testing.assert_close(guided, expected, msg=f"{pattern}")


@pytest.mark.parametrize(
    ("pattern", "weights", "rows"),
    [
        ([G, G, G], (1.0, 1.0), 4),  # 1 + |G|
        ([G, O, G], (1.0, 1.0), 3),
        ([O, A, G], (1.0, 1.0), 2),
        ([A, G, A], (1.0, 1.0), 1),  # nothing to guide by
        ([G, O, G], (2.0, 0.0), 2),  # ε(G|O) and ε(G|∅)
        ([G, O, G], (2.0, 1.0), 4),
        ([G, O, G], (0.0, 0.0), 1),
        ([G, G, A], (1.0, 0.0), 1),
    ],
)
def test_equal_terms_are_computed_once(
    gaussian: Any, pattern: list[int], weights: tuple[float, float], rows: int
) -> None:
    calls: list[int] = []

    def counting(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        calls.append(z.shape[0])
        return z

    roles = torch.tensor([pattern])
    z = torch.zeros(2, 6)
    guided = GuidedNoise(counting, gaussian.layout, Guidance(*weights), z)
    guided(z, multi_time_vector(torch.tensor([[0.5]]), roles), roles)
    assert calls == [rows]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("t", [0.05, 0.2, 0.4, 0.5, 0.9])
def test_no_guidance_outside_the_interval(gaussian: Any, t: float, pattern: list[int]) -> None:
    roles = torch.tensor([pattern])
    times = multi_time_vector(torch.tensor([[t]]).double(), roles)
    z = torch.randn(4, 6, dtype=torch.float64)
    calls: list[int] = []

    def counting(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        calls.append(z.shape[0])
        return gaussian.predict_noise(z, times, roles)

    limited, expected = [
        GuidedNoise(counting, gaussian.layout, guidance, torch.zeros_like(z))(z, times, roles)
        for guidance in (
            Guidance(2.0, 1.0, (0.1, 0.6)),
            Guidance(2.0, 1.0) if 0.1 <= t <= 0.6 else Guidance(0.0, 0.0),
        )
    ]
    assert calls[0] == calls[1]
    assert calls[0] == 1 or 0.1 <= t <= 0.6
    assert torch.equal(limited, expected)


def test_absent_latents_do_not_enter_a_marginal(gaussian: Any) -> None:
    seen: list[Tensor] = []

    def watching(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        absent = roles == A
        seen.append(z[absent.any(-1).squeeze(1)])
        assert bool((times[absent] == 1).all())
        return z

    roles = torch.tensor([[G, O, G]])
    absent_fill = torch.full((4, 6), 7.0)
    guided = GuidedNoise(watching, gaussian.layout, Guidance(), absent_fill)
    guided(torch.randn(4, 6), multi_time_vector(torch.tensor([[0.5]]), roles), roles)
    first, second = seen[0]
    assert torch.equal(first[:, 2:], absent_fill[:, 2:])
    assert torch.equal(second[:, :3], absent_fill[:, :3])


def test_guidance_below_no_dependence_is_rejected() -> None:
    Guidance(-1.0, -1.0)
    with pytest.raises(ValueError, match="at least -1"):
        Guidance(-1.1, 0.0)


@pytest.mark.parametrize("interval", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_invalid_intervals_are_rejected(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="interval of times"):
        Guidance(interval=interval)
