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


def by_the_formula(world: Any, z: Tensor, t: float, pattern: list[int], w: Guidance) -> Tensor:
    """The three terms written out, each asked for by itself."""

    def ask(roles: list[int]) -> Tensor:
        row = torch.tensor([roles])
        answer = world.predict_noise(z, multi_time_vector(torch.tensor([[t]]).double(), row), row)
        return torch.where(world.layout.expand(row) == G, answer, 0.0)

    generated = [i for i, role in enumerate(pattern) if role == G]
    given = ask(pattern)
    nothing = ask([G if i in generated else A for i in range(3)])
    alone = sum(
        (ask([G if j == i else A for j in range(3)]) for i in generated), torch.zeros_like(z)
    )
    return given + w.conditional * (given - nothing) + w.joint * (nothing - alone)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.0, 0.0), (0.0, 2.0), (0.5, 1.5), (0.0, 0.0)])
def test_guidance_is_the_formula_for_rows_of_all_roles(
    world: Any, weights: tuple[float, float]
) -> None:
    guidance = Guidance(*weights)
    z = torch.randn(len(PATTERNS), 6, dtype=torch.float64)
    roles = torch.tensor(PATTERNS)
    times = multi_time_vector(torch.full((len(PATTERNS), 1), 0.3).double(), roles)

    guided = GuidedNoise(world.predict_noise, world.layout, guidance, torch.zeros_like(z))(
        z, times, roles
    )
    for row, pattern in enumerate(PATTERNS):
        expected = by_the_formula(world, z[row : row + 1], 0.3, pattern, guidance)
        torch.testing.assert_close(guided[row : row + 1], expected, msg=f"{pattern}")


@pytest.mark.parametrize(
    ("pattern", "weights", "rows"),
    [
        ([G, G, G], (1.0, 1.0), 4),  # 1 + |G|
        ([G, O, G], (1.0, 1.0), 3),
        ([O, A, G], (1.0, 1.0), 2),
        ([A, G, A], (1.0, 1.0), 1),  # nothing to be guided by
        ([G, O, G], (2.0, 0.0), 2),  # given, and given nothing
        ([G, O, G], (2.0, 1.0), 4),
        ([G, O, G], (0.0, 0.0), 1),
        ([G, G, A], (1.0, 0.0), 1),
    ],
)
def test_equal_terms_are_asked_for_once(
    world: Any, pattern: list[int], weights: tuple[float, float], rows: int
) -> None:
    asked: list[int] = []

    def count(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        asked.append(len(z))
        return z

    roles = torch.tensor([pattern])
    z = torch.zeros(1, 6)
    guided = GuidedNoise(count, world.layout, Guidance(*weights), z)
    guided(z, multi_time_vector(torch.tensor([[0.5]]), roles), roles)
    assert asked == [rows]


@pytest.mark.parametrize("t", [0.05, 0.2, 0.4, 0.5, 0.9])
def test_outside_its_interval_guidance_costs_nothing_and_changes_nothing(
    world: Any, t: float
) -> None:
    roles = torch.tensor(PATTERNS)
    times = multi_time_vector(torch.full((len(PATTERNS), 1), t).double(), roles)
    z = torch.randn(len(PATTERNS), 6, dtype=torch.float64)
    asked: list[int] = []

    def count(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        asked.append(len(z))
        return world.predict_noise(z, times, roles)

    limited, as_told = [
        GuidedNoise(count, world.layout, guidance, torch.zeros_like(z))(z, times, roles)
        for guidance in (
            Guidance(2.0, 1.0, (0.1, 0.6)),
            Guidance(2.0, 1.0) if 0.1 <= t <= 0.6 else Guidance(0.0, 0.0),
        )
    ]
    assert asked[0] == asked[1]
    assert torch.equal(limited, as_told)


def test_absent_latents_never_leak_into_a_marginal(world: Any) -> None:
    seen: list[Tensor] = []

    def watch(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        seen.append(z[(roles == A).any(1)])
        assert bool((times[roles == A] == 1).all())
        return z

    roles = torch.tensor([[G, O, G]])
    blank = torch.full((1, 6), 7.0)
    guided = GuidedNoise(watch, world.layout, Guidance(), blank)
    guided(torch.randn(1, 6), multi_time_vector(torch.tensor([[0.5]]), roles), roles)
    assert seen[0].shape[0] == 2
    assert torch.equal(seen[0][0, 2:], blank[0, 2:])
    assert torch.equal(seen[0][1, :3], blank[0, :3])


def test_negative_guidance_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Guidance(-1.0, 0.0)


@pytest.mark.parametrize("interval", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_an_interval_that_is_none_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="interval of times"):
        Guidance(interval=interval)
