"""With the exact score of Gaussian latents, the distribution of the samples is known."""

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


def make_process(gaussian: Any, roles: list[int]) -> ReverseProcess:
    pattern = torch.tensor([roles])
    return ReverseProcess(gaussian.predict_noise, pattern, gaussian.layout, gaussian.schedule)


def draw(gaussian: Any, name: str, roles: list[int], given: Tensor, steps: int) -> Tensor:
    """Samples in float64, one seed a row."""
    noise = RowNoise(range(len(given)), gaussian.layout.joint_dim, torch.device("cpu"))
    process = make_process(gaussian, roles)
    start = torch.where(process.generated, noise().double(), given)
    solver = SAMPLERS[name]
    return solver.sample(process, start, solver.grid(gaussian.schedule, steps), noise)


QUICK = ("dpm-solver++", "sde-dpm-solver++", "heun")


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        *itertools.product(QUICK, ([G, G, G], [G, O, G], [O, A, G], [A, G, A])),
        # The others take many steps. In-painting only approximates the conditional: see below.
        *((name, [G, O, G]) for name in SAMPLERS if name not in (*QUICK, "inpaint")),
        ("inpaint", [G, G, G]),
    ],
)
def test_samples_have_the_exact_mean_and_covariance(
    gaussian: Any, name: str, roles: list[int]
) -> None:
    given = torch.linspace(-1.5, 2, 6, dtype=torch.float64).expand(N, -1)
    z = draw(gaussian, name, roles, given, STEPS.get(name, 60))
    g, mean, covariance = gaussian.conditional(torch.tensor(roles), given)
    std = covariance.diagonal().sqrt()
    # Four standard errors of a mean and of a covariance, and 3 % for the solver.
    mean_error = (z[:, g].mean(0) - mean[0]).abs() / std
    assert float(mean_error.max()) < 4 / math.sqrt(N) + 0.03
    covariance_error = (torch.cov(z[:, g].T).reshape(covariance.shape) - covariance) / (
        std[:, None] * std
    )
    assert float(covariance_error.abs().max()) < 4 * math.sqrt(2 / N) + 0.03


@pytest.mark.parametrize("name", SAMPLERS)
def test_other_coordinates_are_returned_bit_for_bit(gaussian: Any, name: str) -> None:
    given = torch.randn(5, 6, dtype=torch.float64)
    z = draw(gaussian, name, [G, O, A], given, 20)
    assert torch.equal(z[:, 2:], given[:, 2:])
    assert bool((z[:, :2] != given[:, :2]).all())


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm-solver++", "sde-dpm-solver++"])
@pytest.mark.parametrize("t", [0.01, 0.2, 0.5, 1.0])
def test_step_to_0_recovers_the_clean_latent(gaussian: Any, name: str, t: float) -> None:
    """(z_t − sigma eps) / alpha, if the network predicts the noise eps of z_t exactly."""
    clean, eps = torch.randn(2, 4, 6, dtype=torch.float64)
    time = torch.tensor(t, dtype=torch.float64)
    z = gaussian.schedule.alpha(time) * clean + gaussian.schedule.sigma(time) * eps
    process = ReverseProcess(
        lambda z, times, roles: eps, torch.tensor([[G, G, G]]), gaussian.layout, gaussian.schedule
    )
    noise = RowNoise(range(4), 6, torch.device("cpu"))
    result = SAMPLERS[name].sample(process, z, [t, 0.0], noise)
    torch.testing.assert_close(result, clean)


@pytest.mark.parametrize("name", ORDERS)
def test_solvers_converge_with_their_order(gaussian: Any, name: str) -> None:
    """Against the probability-flow ODE, which for a Gaussian moves each eigencomponent exactly."""
    t_end = 0.05
    start = torch.randn(200, 6, dtype=torch.float64)
    exact = _flow(gaussian, start, t_end)
    process = make_process(gaussian, [G, G, G])
    noise = RowNoise([0], 6, torch.device("cpu"))
    errors = []
    for steps in (40, 80, 160):
        levels = torch.linspace(
            *gaussian.schedule.log_snr(torch.tensor([1.0, t_end]).double()).tolist(), steps + 1
        )
        grid = [1.0, *gaussian.schedule.time_at_log_snr(levels.double()).tolist()[1:]]
        z = SAMPLERS[name].sample(process, start, grid, noise)
        errors.append(float((z - exact).square().mean().sqrt()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(ORDERS[name], abs=0.25), errors


def _flow(gaussian: Any, start: Tensor, t_end: float) -> Tensor:
    values, vectors = torch.linalg.eigh(gaussian.covariance)

    def spread(t: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = gaussian.schedule.alpha(at), gaussian.schedule.sigma(at)
        return alpha, (alpha**2 * values + sigma**2).sqrt()

    (alpha_1, spread_1), (alpha_end, spread_end) = spread(1.0), spread(t_end)
    components = (start - alpha_1 * gaussian.mean) @ vectors / spread_1 * spread_end
    return alpha_end * gaussian.mean + components @ vectors.T


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
def test_number_of_evaluations(gaussian: Any, name: str, steps: int, calls: int) -> None:
    times: list[float] = []

    def count(z: Tensor, at: Tensor, roles: Tensor) -> Tensor:
        times.append(float(at[0, 0]))
        return z

    process = ReverseProcess(count, torch.tensor([[G, O, A]]), gaussian.layout, gaussian.schedule)
    noise = RowNoise([0], 6, torch.device("cpu"))
    SAMPLERS[name].sample(
        process, torch.zeros(1, 6), SAMPLERS[name].grid(gaussian.schedule, steps), noise
    )
    assert len(times) == calls
    assert min(times) > 0
    assert max(times) == 1


@pytest.mark.parametrize("make_grid", [time_grid, uniform_grid])
def test_grids_fall_from_1_to_0(make_grid: Any) -> None:
    for steps in (1, 2, 20, 250):
        grid = make_grid(VPSchedule(), steps)
        assert len(grid) == steps + 1
        assert (grid[0], grid[-1]) == (1, 0)
        assert all(a > b for a, b in itertools.pairwise(grid))


def test_row_noise_does_not_depend_on_the_batch() -> None:
    single = RowNoise([5], 3, torch.device("cpu"))
    batch_noise = RowNoise([4, 5, 6], 3, torch.device("cpu"))
    draws = [(single()[0], batch_noise()) for _ in range(RowNoise.DRAWS_PER_BLOCK + 3)]
    assert all(torch.equal(row_draw, batch[1]) for row_draw, batch in draws)
    assert not torch.equal(draws[0][1][0], draws[0][1][1])
    together = torch.stack([row_draw for row_draw, _ in draws])
    assert len(together.unique(dim=0)) == len(draws)


@pytest.mark.slow
def test_inpaint_approximates_the_conditional(gaussian: Any) -> None:
    """The network only ever predicts jointly at one time, yet samples follow the observed block."""
    calls_are_joint = []

    def predict_noise(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        calls_are_joint.append(bool((roles == G).all() and (times == times[:, :1]).all()))
        return gaussian.predict_noise(z, times, roles)

    given = (gaussian.mean + 2 * gaussian.covariance.diagonal().sqrt()).expand(1000, -1)
    pattern = torch.tensor([[G, O, G]])
    process = ReverseProcess(predict_noise, pattern, gaussian.layout, gaussian.schedule)
    noise = RowNoise(range(1000), gaussian.layout.joint_dim, torch.device("cpu"))
    start = torch.where(process.generated, noise().double(), given)
    z = SAMPLERS["inpaint"].sample(process, start, uniform_grid(gaussian.schedule, 100), noise)
    g, mean, _ = gaussian.conditional(torch.tensor([G, O, G]), given)
    marginal = gaussian.mean[g]
    towards = (z[:, g].mean(0) - marginal) @ (mean[0] - marginal)
    assert all(calls_are_joint)
    assert float(towards / (mean[0] - marginal).square().sum()) == pytest.approx(1, abs=0.15)
