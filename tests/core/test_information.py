"""With the exact score of Gaussian latents, every information has a known value."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import Role
from mld_core.diffusion.standardiser import Standardiser
from mld_core.information.estimator import surprisal
from mld_core.information.measures import (
    Density,
    Measure,
    dual_total_correlation,
    entropy,
    joint_mutual_information,
    mutual_information,
    o_information,
    total_correlation,
)

ROWS = 1000


def h(world: Any, *names: str) -> float:
    """The joint entropy of some modalities, from the log-determinant; 0 of none."""
    own = torch.tensor([world.layout.names.index(name) for name in names])
    at = torch.isin(world.layout.modality_index, own)
    cov = world.covariance[at][:, at]
    return float(torch.logdet(cov) + len(cov) * math.log(2 * math.pi * math.e)) / 2 if names else 0


def shared_nats(world: Any, x: str, y: str, z: str = "") -> float:
    """I(x; y | z), from joint entropies alone."""
    return h(world, *x, *z) + h(world, *y, *z) - h(world, *x, *y, *z) - h(world, *z)


def total(world: Any, names: str) -> float:
    return sum(h(world, name) for name in names) - h(world, *names)


def dual(world: Any, names: str) -> float:
    others = sum(h(world, *names.replace(name, "")) for name in names)
    return others - (len(names) - 1) * h(world, *names)


def measured(world: Any, *measures: Measure, rows: int = ROWS) -> list[float]:
    found = surprisal(world.exact_model(), world.rows(rows), measures, seed=0, shared=False)
    return [found.estimate(measure).value for measure in measures]


def pair(gaussian_world: Any, dim: int, nats: float) -> Any:
    """Two modalities of equal width with this much mutual information, evenly over dimensions."""
    rho = math.sqrt(-math.expm1(-2 * nats / dim))
    eye = torch.eye(dim).double()
    generator = torch.Generator().manual_seed(dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    covariance = torch.cat([torch.cat([eye, rho * turn], 1), torch.cat([rho * turn.T, eye], 1)])
    return gaussian_world(
        LatentLayout({"x": dim, "y": dim}), torch.zeros(2 * dim).double(), covariance
    )


def close(value: float, exact: float) -> bool:
    return abs(value - exact) < max(0.02, 0.02 * abs(exact))


SLOW = pytest.mark.slow
LONG = (pytest.mark.slow, pytest.mark.long)


@pytest.mark.parametrize(
    ("dim", "nats"),
    [(1, 0.0), (1, 5.0), (4, 2.0), (20, 0.3)]
    + [pytest.param(dim, nats, marks=SLOW) for dim, nats in [(1, 1.0), (2, 0.0), (4, 0.1)]]
    + [
        pytest.param(dim, nats, marks=LONG)
        for dim, nats in [(4, 5.0), (20, 0.0), (20, 2.0), (20, 5.0)]
    ],
)
def test_mutual_information_of_two(gaussian_world: Any, dim: int, nats: float) -> None:
    world = pair(gaussian_world, dim, nats)
    both = measured(world, mutual_information("x", "y"), joint_mutual_information("x", "y"))
    assert all(close(value, nats) for value in both), both


@pytest.mark.parametrize(
    ("count", "dim", "rows"),
    [
        (3, 1, 2000),
        pytest.param(4, 3, 8000, marks=LONG),
        pytest.param(5, 1, 8000, marks=LONG),
        pytest.param(6, 2, 8000, marks=LONG),
    ],
)
def test_every_measure_of_several(gaussian_world: Any, count: int, dim: int, rows: int) -> None:
    names = [chr(ord("a") + index) for index in range(count)]
    generator = torch.Generator().manual_seed(count)
    root = torch.randn(count * dim, count * dim, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / (count * dim) + 0.1 * torch.eye(count * dim)
    scale = covariance.diagonal().sqrt()
    world = gaussian_world(
        LatentLayout(dict.fromkeys(names, dim)),
        torch.zeros(count * dim).double(),
        covariance / scale / scale[:, None],
    )
    every, a, b, rest = "".join(names), names[0], names[1], "".join(names[2:])
    told = {
        "pair": (mutual_information(a, b), shared_nats(world, a, b)),
        "given": (mutual_information(a, b, rest), shared_nats(world, a, b, rest)),
        "sets": (mutual_information(a + b, rest), shared_nats(world, a + b, rest)),
        "joint": (joint_mutual_information(a, rest, b), shared_nats(world, a, rest, b)),
        "total": (total_correlation(every), total(world, every)),
        "dual": (dual_total_correlation(every), dual(world, every)),
        "O": (o_information(every), total(world, every) - dual(world, every)),
        "entropy": (entropy(every), h(world, *every)),
        "conditional": (entropy(b, a), h(world, a, b) - h(world, a)),
    }
    found = measured(world, *(measure for measure, _ in told.values()), rows=rows)
    for value, (name, (_, exact)) in zip(found, told.items(), strict=True):
        assert close(value, exact), (name, value, exact)


@pytest.mark.parametrize("kind", ["redundant", "synergistic"])
def test_the_o_information_tells_redundancy_from_synergy(gaussian_world: Any, kind: str) -> None:
    """Three noisy copies of one number; or a noisy sum beside its two independent summands."""
    mix = {
        "redundant": [[1.0, 0.3, 0, 0], [1, 0, 0.3, 0], [1, 0, 0, 0.3]],
        "synergistic": [[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0.3, 0]],
    }[kind]
    root = torch.tensor(mix, dtype=torch.float64)
    root = root / root.norm(dim=1, keepdim=True)
    layout = LatentLayout({"a": 1, "b": 1, "c": 1})
    world = gaussian_world(layout, torch.zeros(3).double(), root @ root.T)
    (value,) = measured(world, o_information("abc"), rows=4 * ROWS)
    assert close(value, total(world, "abc") - dual(world, "abc"))
    assert (value > 0.5) if kind == "redundant" else (value < -0.5)


def test_measures_are_right_on_any_scale_of_raw_latents(world: Any) -> None:
    """Informations do not change with the units; entropies are those of standardised latents.

    And what a network says where nothing is generated is not heard.
    """
    shift, scale = torch.linspace(5, 10, 6), torch.linspace(0.5, 3, 6)
    standardiser = Standardiser(shift, scale, torch.zeros(6).bool())

    def idle(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        return torch.nan_to_num(world.predict_noise(z, times, roles), nan=7.0)

    model = replace(world.exact_model(), standardiser=standardiser, predict_noise=idle)
    z = standardiser.restore(world.layout.concatenate(world.rows(ROWS)))
    told = {
        "I": (mutual_information("a", "c", "b"), shared_nats(world, "a", "c", "b")),
        "h": (entropy("c"), h(world, "c")),
    }
    measures = [measure for measure, _ in told.values()]
    found = surprisal(model, world.layout.split(z), measures, seed=1, shared=False)
    for measure, exact in told.values():
        assert close(found.estimate(measure).value, exact)


def test_pointwise_scores_are_those_of_the_densities(gaussian_world: Any) -> None:
    """Row by row: off by the standard error that is told, and in the right order."""
    world = pair(gaussian_world, 3, 2.0)
    rows = world.rows(80)
    rows["y"][::4] = rows["y"][::4].roll(1, 0)
    measure = mutual_information("x", "y")
    exact = world.log_density(rows, ("x",), ("y",)) - world.log_density(rows, ("x",))
    off, areas = [], []
    wrong = torch.arange(80) % 4 == 0
    for seed in range(12):
        found = surprisal(world.exact_model(), rows, [measure], seed, shared=True)
        value, error = found.rows(measure)
        off.append((value - exact) / error)
        areas.append(area(-value, wrong))
    assert 0.6 < float(torch.stack(off).square().mean().sqrt()) < 1.5
    assert min(areas) > area(-exact, wrong) - 0.02
    assert float(exact[wrong].mean()) < 0 < float(exact[~wrong].mean())


def area(score: Tensor, positive: Tensor) -> float:
    """Under the ROC curve."""
    return float((score[positive][:, None] > score[~positive]).double().mean())


def test_a_shared_noise_makes_a_row_independent_of_its_batch(world: Any) -> None:
    model, rows = world.exact_model(), world.rows(50)
    measure = total_correlation("abc")
    whole, _ = surprisal(model, rows, [measure], seed=2, shared=True).rows(measure)
    alone = {name: z[7:8] for name, z in rows.items()}
    more = [measure, mutual_information("a", "b")]
    one, _ = surprisal(model, alone, more, seed=2, shared=True).rows(measure)
    torch.testing.assert_close(one[0], whole[7])


def test_the_standard_error_is_the_spread_of_repetitions(gaussian_world: Any) -> None:
    world = pair(gaussian_world, 2, 1.0)
    measure = mutual_information("x", "y")
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(world.covariance)
    estimates = []
    for seed in range(30):
        z = torch.randn(100, 4, generator=generator, dtype=torch.float64) @ root.T
        found = surprisal(
            world.exact_model(), world.layout.split(z), [measure], seed=seed, shared=False, nodes=64
        )
        estimates.append(found.estimate(measure))
    spread = float(torch.tensor([own.value for own in estimates]).std())
    told = float(torch.tensor([own.standard_error for own in estimates]).mean())
    assert 0.7 < told / spread < 1.4


def test_forms_of_one_quantity_are_weighted_by_their_precision(gaussian_world: Any) -> None:
    """A form that scatters ten times as much counts a hundredth."""
    world = pair(gaussian_world, 2, 1.0)
    good, poor = mutual_information("x", "y"), mutual_information("y", "x")
    found = surprisal(world.exact_model(), world.rows(200), [good, poor], seed=0, shared=False)
    both = found.estimate(good, poor)
    assert both.standard_error <= found.estimate(good).standard_error * 1.001
    worse = Density(("y",)), Density(("y",), ("x",))
    scattered = {
        **found.errors,
        **{own: torch.randn(128, 200).double() * 1e3 for own in worse},
    }
    spoilt = replace(found, errors=scattered)
    value = spoilt.estimate(good, poor).value
    assert value == pytest.approx(found.estimate(good).value, abs=0.1)
    assert abs(spoilt.estimate(poor).value - 1) > 1


def test_estimates_converge_in_the_noise_levels(gaussian_world: Any) -> None:
    world = pair(gaussian_world, 2, 3.0)
    measure = mutual_information("x", "y")
    found = surprisal(world.exact_model(), world.rows(ROWS), [measure], seed=0, shared=False)
    estimate = found.estimate(measure)
    nodes = [own[0] for own in estimate.convergence]
    assert nodes == [8, 16, 32, 64, 128]
    assert estimate.convergence[-1][1:] == (estimate.value, estimate.standard_error)
    assert abs(estimate.convergence[-1][1] - 3) < 0.06


@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_calibration_mends_a_network_too_sure_of_itself_and_leaves_a_true_one(
    gaussian_world: Any, gain: float
) -> None:
    """What a conditional prediction adds to the marginal one is blown up by `gain`."""
    world = pair(gaussian_world, 3, 2.0)

    def sure(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        eps = world.predict_noise(z, times, roles)
        alone = torch.where(roles == Role.OBSERVED, Role.ABSENT, roles)
        marginal = world.predict_noise(z, torch.where(alone == Role.ABSENT, 1.0, times), alone)
        return marginal + gain * (eps - marginal)

    model = replace(world.exact_model(), predict_noise=sure)
    measure = mutual_information("x", "y")
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(500, 6, generator=generator, dtype=torch.float64)
    held_out = world.layout.split(z @ torch.linalg.cholesky(world.covariance).T)
    values = [
        surprisal(model, world.rows(ROWS), [measure], 0, False, held_out=own)
        .estimate(measure)
        .value
        for own in (None, held_out)
    ]
    assert abs(values[1] - 2.0) < 0.06
    assert (abs(values[0] - 2.0) < 0.04) if gain == 1 else (values[0] < 1.6)


def test_requests_that_make_no_sense_are_refused(world: Any) -> None:
    model, rows = world.model(), {name: z.float() for name, z in world.rows(40).items()}
    with pytest.raises(ValueError, match="not given"):
        entropy("a", "ab")
    with pytest.raises(ValueError, match="no latents of b, d"):
        surprisal(model, {"a": rows["a"]}, [{Density(("b", "d")): 1.0}], 0, True)
    with pytest.raises(ValueError, match="a power of two"):
        surprisal(model, rows, [entropy("a")], 0, True, nodes=100)
    one = {name: z[:1] for name, z in rows.items()}
    found = surprisal(model, one, [entropy("a")], 0, False)
    with pytest.raises(ValueError, match="two rows"):
        found.estimate(entropy("a"))
    for scheme, asked in (("paper", entropy("a")), ("joint", entropy("a", "bc"))):
        with pytest.raises(ValueError, match=rf"{scheme} has no marginals.*roles: three-role"):
            surprisal(replace(model, scheme=scheme), rows, [asked], 0, True)
    paper = replace(model, scheme="paper")
    surprisal(paper, rows, [dual_total_correlation("abc")], 0, True)
