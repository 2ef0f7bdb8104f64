"""The gold tests: with the exact score of Gaussian latents, every sampler has a known answer."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mld_core.diffusion.reverse_process import ReverseProcess, RowNoise
from mld_core.diffusion.roles import Role
from mld_core.diffusion.samplers import SAMPLERS, time_grid, uniform_grid
from mld_core.diffusion.schedule import VPSchedule

G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
N = 3000
STEPS = {
    "euler-maruyama": 400,
    "repaint": 50,
    "inpaint": 50,
    "ddim": 200,
    "heun": 25,
    "dpm-solver++": 40,
}
ORDERS = {"ddim": 1, "heun": 2, "dpm-solver++": 2}


def process_of(world: Any, roles: list[int], rows: int) -> ReverseProcess:
    pattern = torch.tensor([roles]).expand(rows, -1)
    return ReverseProcess(world.predict_noise, pattern, world.layout, world.schedule)


def draw(world: Any, name: str, roles: list[int], given: Tensor, steps: int) -> Tensor:
    """Samples in float64, one seed a row."""
    noise = RowNoise(range(len(given)), world.layout.joint_dim, torch.device("cpu"))
    process = process_of(world, roles, len(given))
    start = torch.where(process.generated, noise().double(), given)
    method = SAMPLERS[name]
    return method.sample(process, start, method.grid(world.schedule, steps), noise)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("roles", [[G, G, G], [G, O, G], [O, A, G], [A, G, A]])
def test_samples_have_the_exact_mean_and_covariance(
    world: Any, name: str, roles: list[int]
) -> None:
    if name == "inpaint" and O in roles:
        pytest.skip("painting in what is observed only comes near the conditional: see below")
    given = torch.linspace(-1.5, 2, 6, dtype=torch.float64).expand(N, -1)
    z = draw(world, name, roles, given, STEPS.get(name, 60))
    g, mean, covariance = world.conditional(torch.tensor(roles), given)
    std = covariance.diagonal().sqrt()
    # Four standard errors of a mean and of a covariance, and 3 % for the solver.
    off_mean = (z[:, g].mean(0) - mean[0]).abs() / std
    assert float(off_mean.max()) < 4 / math.sqrt(N) + 0.03
    off = (torch.cov(z[:, g].T).reshape(covariance.shape) - covariance) / (std[:, None] * std)
    assert float(off.abs().max()) < 4 * math.sqrt(2 / N) + 0.03


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_not_generated_comes_back_bit_for_bit(world: Any, name: str) -> None:
    given = torch.randn(5, 6, dtype=torch.float64)
    z = draw(world, name, [G, O, A], given, 20)
    assert torch.equal(z[:, 2:], given[:, 2:])
    assert bool((z[:, :2] != given[:, :2]).all())


@pytest.mark.parametrize("name", ORDERS)
def test_solvers_converge_at_their_order(world: Any, name: str) -> None:
    """Against the probability-flow ODE, which for a Gaussian moves each eigencomponent exactly."""
    t_end = 0.05
    start = torch.randn(200, 6, dtype=torch.float64)
    exact = _flow(world, start, t_end)
    process = process_of(world, [G, G, G], len(start))
    noise = RowNoise([0], 6, torch.device("cpu"))
    errors = []
    for steps in (40, 80, 160):
        levels = torch.linspace(
            *world.schedule.log_snr(torch.tensor([1.0, t_end]).double()).tolist(), steps + 1
        )
        grid = [1.0, *world.schedule.time_at_log_snr(levels.double()).tolist()[1:]]
        z = SAMPLERS[name].sample(process, start, grid, noise)
        errors.append(float((z - exact).square().mean().sqrt()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(ORDERS[name], abs=0.25), errors


def _flow(world: Any, start: Tensor, t_end: float) -> Tensor:
    values, vectors = torch.linalg.eigh(world.covariance)

    def spread(t: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = world.schedule.alpha(at), world.schedule.sigma(at)
        return alpha, (alpha**2 * values + sigma**2).sqrt()

    (alpha_1, spread_1), (alpha_end, spread_end) = spread(1.0), spread(t_end)
    components = (start - alpha_1 * world.mean) @ vectors / spread_1 * spread_end
    return alpha_end * world.mean + components @ vectors.T


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [
        ("ddim", 20, 20),
        ("dpm-solver++", 20, 20),
        ("sde-dpm-solver++", 20, 20),
        ("euler-maruyama", 250, 250),
        ("heun", 20, 39),
        ("repaint", 250, 2410),
    ],
)
def test_the_number_of_evaluations(world: Any, name: str, steps: int, calls: int) -> None:
    times: list[float] = []

    def count(z: Tensor, at: Tensor, roles: Tensor) -> Tensor:
        times.append(float(at[0, 0]))
        return z

    process = ReverseProcess(count, torch.tensor([[G, O, A]]), world.layout, world.schedule)
    noise = RowNoise([0], 6, torch.device("cpu"))
    SAMPLERS[name].sample(
        process, torch.zeros(1, 6), SAMPLERS[name].grid(world.schedule, steps), noise
    )
    assert len(times) == calls
    assert min(times) > 0
    assert max(times) == 1


@pytest.mark.parametrize("make", [time_grid, uniform_grid])
def test_grids_fall_from_1_to_0(make: Any) -> None:
    for steps in (1, 2, 20, 250):
        grid = make(VPSchedule(), steps)
        assert len(grid) == steps + 1
        assert (grid[0], grid[-1]) == (1, 0)
        assert all(a > b for a, b in itertools.pairwise(grid))


def test_a_row_draws_the_same_noise_in_any_batch() -> None:
    alone = RowNoise([5], 3, torch.device("cpu"))
    among = RowNoise([4, 5, 6], 3, torch.device("cpu"))
    draws = [(alone()[0], among()) for _ in range(RowNoise.AHEAD + 3)]
    assert all(torch.equal(own, batch[1]) for own, batch in draws)
    assert not torch.equal(draws[0][1][0], draws[0][1][1])
    together = torch.stack([own for own, _ in draws])
    assert len(together.unique(dim=0)) == len(draws)


def test_in_painting_comes_near_the_conditional_of_a_joint_model(world: Any) -> None:
    """It asks for everything at one time, and still the samples follow what is observed."""
    asked = []

    def predict_noise(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        asked.append(bool((roles == G).all() and (times == times[:, :1]).all()))
        return world.predict_noise(z, times, roles)

    given = (world.mean + 2 * world.covariance.diagonal().sqrt()).expand(1000, -1)
    pattern = torch.tensor([[G, O, G]]).expand(1000, -1)
    process = ReverseProcess(predict_noise, pattern, world.layout, world.schedule)
    noise = RowNoise(range(1000), world.layout.joint_dim, torch.device("cpu"))
    start = torch.where(process.generated, noise().double(), given)
    z = SAMPLERS["inpaint"].sample(process, start, uniform_grid(world.schedule, 100), noise)
    g, mean, _ = world.conditional(torch.tensor([G, O, G]), given)
    marginal = world.mean[g]
    towards = (z[:, g].mean(0) - marginal) @ (mean[0] - marginal)
    assert all(asked)
    assert float(towards / (mean[0] - marginal).square().sum()) == pytest.approx(1, abs=0.15)
