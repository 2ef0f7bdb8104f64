"""With the exact score of Gaussian latents, every information measure has a known value."""

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
    chained_entropy,
    dual_total_correlation,
    entropy,
    joint_mutual_information,
    mutual_information,
    o_information,
    total_correlation,
)

ROWS = 1000


def h(gaussian: Any, *names: str) -> float:
    """Joint entropy of some modalities, from the log-determinant; 0 for none."""
    indices = torch.tensor([gaussian.layout.names.index(name) for name in names])
    selected = torch.isin(gaussian.layout.modality_index, indices)
    cov = gaussian.covariance[selected][:, selected]
    return float(torch.logdet(cov) + len(cov) * math.log(2 * math.pi * math.e)) / 2 if names else 0


def mutual_nats(gaussian: Any, x: str, y: str, z: str = "") -> float:
    """I(x; y | z), from joint entropies alone."""
    return h(gaussian, *x, *z) + h(gaussian, *y, *z) - h(gaussian, *x, *y, *z) - h(gaussian, *z)


def total(gaussian: Any, names: str) -> float:
    return sum(h(gaussian, name) for name in names) - h(gaussian, *names)


def dual(gaussian: Any, names: str) -> float:
    others = sum(h(gaussian, *names.replace(name, "")) for name in names)
    return others - (len(names) - 1) * h(gaussian, *names)


def measured(gaussian: Any, *measures: Measure, rows: int = ROWS) -> list[float]:
    result = surprisal(gaussian.exact_model(), gaussian.rows(rows), measures, seed=0, shared=False)
    return [result.estimate(measure).value for measure in measures]


def pair(gaussian_latents: Any, dim: int, nats: float) -> Any:
    """Two modalities of equal width with this much mutual information, evenly over dimensions."""
    rho = math.sqrt(-math.expm1(-2 * nats / dim))
    eye = torch.eye(dim).double()
    generator = torch.Generator().manual_seed(dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    covariance = torch.cat([torch.cat([eye, rho * turn], 1), torch.cat([rho * turn.T, eye], 1)])
    return gaussian_latents(
        LatentLayout.of_vectors({"x": dim, "y": dim}), torch.zeros(2 * dim).double(), covariance
    )


def close(value: float, exact: float) -> bool:
    return abs(value - exact) < max(0.02, 0.02 * abs(exact))


LONG = (pytest.mark.slow, pytest.mark.long)


@pytest.mark.parametrize(
    ("dim", "nats"),
    [(1, 0.0), (1, 5.0), (4, 2.0)]
    + [
        pytest.param(dim, nats, marks=LONG)
        for dim, nats in (
            *[(1, 1.0), (2, 0.0), (4, 0.1), (4, 5.0)],
            *[(20, 0.3), (20, 0.0), (20, 2.0), (20, 5.0)],
        )
    ],
)
def test_mutual_information_of_two_modalities(gaussian_latents: Any, dim: int, nats: float) -> None:
    gaussian = pair(gaussian_latents, dim, nats)
    both = measured(gaussian, mutual_information("x", "y"), joint_mutual_information("x", "y"))
    assert all(close(value, nats) for value in both), both


@pytest.mark.parametrize(
    ("count", "dim", "rows"),
    [
        pytest.param(3, 1, 2000, marks=LONG),
        pytest.param(4, 3, 8000, marks=LONG),
        pytest.param(5, 1, 8000, marks=LONG),
        pytest.param(6, 2, 8000, marks=LONG),
    ],
)
def test_all_measures_of_several_modalities(
    gaussian_latents: Any, count: int, dim: int, rows: int
) -> None:
    names = [chr(ord("a") + index) for index in range(count)]
    generator = torch.Generator().manual_seed(count)
    root = torch.randn(count * dim, count * dim, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / (count * dim) + 0.1 * torch.eye(count * dim)
    scale = covariance.diagonal().sqrt()
    gaussian = gaussian_latents(
        LatentLayout.of_vectors(dict.fromkeys(names, dim)),
        torch.zeros(count * dim).double(),
        covariance / scale / scale[:, None],
    )
    every, a, b, rest = "".join(names), names[0], names[1], "".join(names[2:])
    cases = {
        "pair": (mutual_information(a, b), mutual_nats(gaussian, a, b)),
        "given": (mutual_information(a, b, rest), mutual_nats(gaussian, a, b, rest)),
        "sets": (mutual_information(a + b, rest), mutual_nats(gaussian, a + b, rest)),
        "joint": (joint_mutual_information(a, rest, b), mutual_nats(gaussian, a, rest, b)),
        "total": (total_correlation(every), total(gaussian, every)),
        "chain": (total_correlation(every, chained_entropy(every)), total(gaussian, every)),
        "dual": (dual_total_correlation(every), dual(gaussian, every)),
        "O": (o_information(every), total(gaussian, every) - dual(gaussian, every)),
        "entropy": (entropy(every), h(gaussian, *every)),
        "conditional": (entropy(b, a), h(gaussian, a, b) - h(gaussian, a)),
    }
    values = measured(gaussian, *(measure for measure, _ in cases.values()), rows=rows)
    for value, (name, (_, exact)) in zip(values, cases.items(), strict=True):
        assert close(value, exact), (name, value, exact)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("kind", ["redundant", "synergistic"])
def test_sign_of_the_o_information(gaussian_latents: Any, kind: str) -> None:
    """Three noisy copies of one number; or a noisy sum beside its two independent summands."""
    mix = {
        "redundant": [[1.0, 0.3, 0, 0], [1, 0, 0.3, 0], [1, 0, 0, 0.3]],
        "synergistic": [[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0.3, 0]],
    }[kind]
    root = torch.tensor(mix, dtype=torch.float64)
    root = root / root.norm(dim=1, keepdim=True)
    layout = LatentLayout.of_vectors({"a": 1, "b": 1, "c": 1})
    gaussian = gaussian_latents(layout, torch.zeros(3).double(), root @ root.T)
    (value,) = measured(gaussian, o_information("abc"), rows=4 * ROWS)
    assert close(value, total(gaussian, "abc") - dual(gaussian, "abc"))
    assert (value > 0.5) if kind == "redundant" else (value < -0.5)


def test_measures_do_not_depend_on_the_scale_of_latents(gaussian: Any) -> None:
    """Information does not change with the units; entropies are those of standardised latents.

    Outputs of the network where nothing is generated are ignored.
    """
    shift, scale = torch.linspace(5, 10, 6), torch.linspace(0.5, 3, 6)
    standardiser = Standardiser(shift, scale, torch.zeros(6).bool())

    def predict_noise(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        return torch.nan_to_num(gaussian.predict_noise(z, times, roles), nan=7.0)

    model = replace(gaussian.exact_model(), standardiser=standardiser, predict_noise=predict_noise)
    z = standardiser.unstandardise(gaussian.layout.concatenate(gaussian.rows(ROWS)))
    cases = {
        "I": (mutual_information("a", "c", "b"), mutual_nats(gaussian, "a", "c", "b")),
        "h": (entropy("c"), h(gaussian, "c")),
    }
    measures = [measure for measure, _ in cases.values()]
    result = surprisal(model, gaussian.layout.split(z), measures, seed=1, shared=False)
    for measure, exact in cases.values():
        assert close(result.estimate(measure).value, exact)


@pytest.mark.slow
def test_pointwise_values_match_the_densities(gaussian_latents: Any) -> None:
    """Errors of single rows agree with their standard error, and rows are ranked correctly."""
    gaussian = pair(gaussian_latents, 3, 2.0)
    rows = gaussian.rows(80)
    rows["y"][::4] = rows["y"][::4].roll(1, 0)
    measure = mutual_information("x", "y")
    exact = gaussian.log_density(rows, ("x",), ("y",)) - gaussian.log_density(rows, ("x",))
    z_scores, aucs = [], []
    mismatched = torch.arange(80) % 4 == 0
    for seed in range(12):
        result = surprisal(gaussian.exact_model(), rows, [measure], seed, shared=True)
        value, error = result.rows(measure)
        z_scores.append((value - exact) / error)
        aucs.append(auc(-value, mismatched))
    assert 0.6 < float(torch.stack(z_scores).square().mean().sqrt()) < 1.5
    assert min(aucs) > auc(-exact, mismatched) - 0.02
    assert float(exact[mismatched].mean()) < 0 < float(exact[~mismatched].mean())


def auc(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve."""
    return float((score[positive][:, None] > score[~positive]).double().mean())


def test_with_shared_noise_rows_do_not_depend_on_the_batch(gaussian: Any) -> None:
    model, rows = gaussian.exact_model(), gaussian.rows(50)
    measure = total_correlation("abc")
    batch, _ = surprisal(model, rows, [measure], seed=2, shared=True, nodes=16).rows(measure)
    alone = {name: z[7:8] for name, z in rows.items()}
    more = [measure, mutual_information("a", "b")]
    one, _ = surprisal(model, alone, more, seed=2, shared=True, nodes=16).rows(measure)
    torch.testing.assert_close(one[0], batch[7])


@pytest.mark.slow
@pytest.mark.long
def test_standard_error_is_the_std_over_repetitions(gaussian_latents: Any) -> None:
    gaussian = pair(gaussian_latents, 2, 1.0)
    measure = mutual_information("x", "y")
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(gaussian.covariance)
    estimates = []
    for seed in range(30):
        z = torch.randn(100, 4, generator=generator, dtype=torch.float64) @ root.T
        result = surprisal(
            gaussian.exact_model(),
            gaussian.layout.split(z),
            [measure],
            seed=seed,
            shared=False,
            nodes=64,
        )
        estimates.append(result.estimate(measure))
    spread = float(torch.tensor([e.value for e in estimates]).std())
    standard_error = float(torch.tensor([e.standard_error for e in estimates]).mean())
    assert 0.7 < standard_error / spread < 1.4


def test_measures_of_one_quantity_are_weighted_by_precision(gaussian_latents: Any) -> None:
    """A measure with ten times the standard deviation has a hundredth of the weight."""
    gaussian = pair(gaussian_latents, 2, 1.0)
    good, poor = mutual_information("x", "y"), mutual_information("y", "x")
    result = surprisal(
        gaussian.exact_model(), gaussian.rows(200), [good, poor], seed=0, shared=False
    )
    both = result.estimate(good, poor)
    assert both.standard_error <= result.estimate(good).standard_error * 1.001
    worse = Density(("y",)), Density(("y",), ("x",))
    scattered = {
        **result.errors,
        **{density: torch.randn(128, 200).double() * 1e3 for density in worse},
    }
    corrupted = replace(result, errors=scattered)
    value = corrupted.estimate(good, poor).value
    assert value == pytest.approx(result.estimate(good).value, abs=0.1)
    assert abs(corrupted.estimate(poor).value - 1) > 1


def test_estimates_converge_with_the_noise_levels(gaussian_latents: Any) -> None:
    gaussian = pair(gaussian_latents, 2, 3.0)
    measure = mutual_information("x", "y")
    result = surprisal(gaussian.exact_model(), gaussian.rows(ROWS), [measure], seed=0, shared=False)
    estimate = result.estimate(measure)
    nodes = [point[0] for point in estimate.convergence]
    assert nodes == [8, 16, 32, 64, 128]
    assert estimate.convergence[-1][1:] == (estimate.value, estimate.standard_error)
    assert abs(estimate.convergence[-1][1] - 3) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("gain", [pytest.param(1.0, marks=pytest.mark.long), 1.5])
def test_calibration_corrects_an_overconfident_network(gaussian_latents: Any, gain: float) -> None:
    """The difference between conditional and marginal predictions is multiplied by `gain`."""
    gaussian = pair(gaussian_latents, 3, 2.0)

    def overconfident(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        eps = gaussian.predict_noise(z, times, roles)
        alone = torch.where(roles == Role.OBSERVED, Role.ABSENT, roles)
        marginal = gaussian.predict_noise(z, torch.where(alone == Role.ABSENT, 1.0, times), alone)
        return marginal + gain * (eps - marginal)

    model = replace(gaussian.exact_model(), predict_noise=overconfident)
    measure = mutual_information("x", "y")
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(500, 6, generator=generator, dtype=torch.float64)
    held_out = gaussian.layout.split(z @ torch.linalg.cholesky(gaussian.covariance).T)
    values = [
        surprisal(model, gaussian.rows(ROWS), [measure], 0, False, held_out=rows)
        .estimate(measure)
        .value
        for rows in (None, held_out)
    ]
    assert abs(values[1] - 2.0) < 0.06
    assert (abs(values[0] - 2.0) < 0.04) if gain == 1 else (values[0] < 1.6)


def test_intervals_tell_the_error_of_the_network(gaussian_latents: Any) -> None:
    """Where marginals are poor, estimates disagree, or recalibration changes them."""
    gaussian = pair(gaussian_latents, 3, 2.0)
    x, y, joint = (
        mutual_information("x", "y"),
        mutual_information("y", "x"),
        joint_mutual_information("x", "y"),
    )

    def poor_marginals(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        eps = gaussian.predict_noise(z, times, roles)
        alone = (roles == Role.ABSENT).any(-1, keepdim=True)
        return torch.where(alone, 0.8 * eps, eps)

    generator = torch.Generator().manual_seed(4)
    z = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    held_out = gaussian.layout.split(z @ torch.linalg.cholesky(gaussian.covariance).T)
    exact = gaussian.exact_model()
    poor = replace(exact, predict_noise=poor_marginals)
    for model, calibration in ((exact, None), (poor, None), (poor, held_out)):
        result = surprisal(
            model, gaussian.rows(300), [x, y, joint], 0, False, held_out=calibration, nodes=64
        )
        averaged = result.estimate(x, joint)
        checked = result.estimate(x, checks=[joint])
        assert checked.value == result.estimate(x).value
        for estimate in (averaged, checked):
            assert abs(estimate.value - 2.0) < estimate.half_width
            assert (estimate.network_error < 0.1) == (model is exact or bool(calibration))
            assert (abs(estimate.recalibration) > 0.5) == bool(calibration), estimate
        if calibration is None:
            assert result.estimate(x).network_error == 0.0  # nothing to compare with


def test_invalid_requests_are_rejected(gaussian: Any) -> None:
    model, rows = gaussian.model(), {name: z.float() for name, z in gaussian.rows(40).items()}
    with pytest.raises(ValueError, match=r"disjoint from `given`, got \['a'\] \| \['a', 'b'\]"):
        entropy("a", "ab")
    with pytest.raises(ValueError, match="no latents of b, d"):
        surprisal(model, {"a": rows["a"]}, [{Density(("b", "d")): 1.0}], 0, True)
    with pytest.raises(ValueError, match="a power of two"):
        surprisal(model, rows, [entropy("a")], 0, True, nodes=100)
    one = {name: z[:1] for name, z in rows.items()}
    result = surprisal(model, one, [entropy("a")], 0, False, nodes=16)
    with pytest.raises(ValueError, match="two rows"):
        result.estimate(entropy("a"))
    for scheme, measure in (("paper", entropy("a")), ("joint", entropy("a", "bc"))):
        with pytest.raises(ValueError, match=rf"{scheme} has no marginals.*roles: three-role"):
            surprisal(replace(model, scheme=scheme), rows, [measure], 0, True)
    paper = replace(model, scheme="paper")
    surprisal(paper, rows, [dual_total_correlation("abc")], 0, True, nodes=16)
