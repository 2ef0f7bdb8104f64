"""The joint Gaussian against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from mld_baselines.gaussian import Gaussian, GaussianConfig, GaussianModel
from mld_baselines.gaussian_fit import fit_gaussian, optimal_shrinkage
from mld_core import Registry

WIDTHS = {"a": 2, "b": 1, "c": 2}
MEAN = torch.tensor([0.1, -0.2, 0.0, 0.3, -0.1]).double()
ROOT = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.5, 0.8, 0.0, 0.0, 0.0],
        [0.7, -0.3, 0.6, 0.0, 0.0],
        [-0.4, 0.2, 0.5, 0.7, 0.0],
        [0.3, 0.6, -0.2, 0.1, 0.5],
    ]
).double()
COVARIANCE = ROOT @ ROOT.T


def known_model() -> GaussianModel:
    model = GaussianModel(WIDTHS, None)
    model.mean.copy_(MEAN)
    model.covariance.copy_(COVARIANCE)
    return model


def split(z: Tensor) -> dict[str, Tensor]:
    return dict(zip(WIDTHS, z.split([*WIDTHS.values()], 1), strict=True))


def draw(n: int) -> Tensor:
    return MEAN + torch.randn(n, 5, generator=torch.Generator().manual_seed(0)).double() @ ROOT.T


def missing(n: int, rate: float) -> Tensor:
    """Which of the modalities are present, at least one in each row."""
    present = torch.rand(n, 3, generator=torch.Generator().manual_seed(1)) > rate
    present[~present.any(1), 0] = True
    return present


def test_it_is_installed_without_the_libraries_of_the_other_baselines() -> None:
    assert Registry().method("gaussian") is Gaussian


def test_complete_rows_give_their_own_mean_and_covariance() -> None:
    model, z = GaussianModel(WIDTHS, 1e-9), draw(300)
    model.fit(split(z), torch.ones(300, 3, dtype=torch.bool))
    assert torch.allclose(model.mean, z.mean(0))
    assert torch.allclose(model.covariance, torch.cov(z.T, correction=0), atol=1e-8)


def test_shrinkage_replaces_a_share_of_the_covariance() -> None:
    z, present = draw(300), torch.ones(300, 5, dtype=torch.bool)
    _, covariance = fit_gaussian(z, present, 0.25)
    expected = 0.75 * torch.cov(z.T, correction=0) + 0.25 * torch.eye(5)
    assert torch.allclose(covariance, expected.double())


def test_shrinkage_is_about_that_of_scikit_learn() -> None:
    """Which leaves out terms that vanish for many coordinates."""
    covariance = pytest.importorskip("sklearn.covariance")
    z = torch.randn(60, 100, generator=torch.Generator().manual_seed(0)).double()
    z[:, 1:50] += z[:, :1]
    z = (z - z.mean(0)) / z.std(0, correction=0)
    expected, share = covariance.oas(z.numpy(), assume_centered=True)
    assert 0.1 < share < 0.9
    assert optimal_shrinkage(torch.cov(z.T, correction=0), 60) == pytest.approx(share, rel=0.03)
    _, fitted = fit_gaussian(z, torch.ones(60, 100, dtype=torch.bool), None)
    assert np.allclose(fitted, expected, atol=0.03)


def test_missing_cells_do_not_bias_the_fit() -> None:
    n = 20_000
    z, present = draw(n), missing(n, 0.4)
    # `a` is missing where `b` is large: at random given `b`, but not completely.
    present[:, 1] = True
    present[:, 0] = (z[:, 2] < 0.3) | (torch.arange(n) % 4 == 0)
    model = GaussianModel(WIDTHS, 1e-9)
    hidden = torch.where(model._expand(present), z, 0.0)
    model.fit(split(hidden), present)
    assert (model.mean - MEAN).abs().max() < 0.03
    assert (model.covariance - COVARIANCE).abs().max() < 0.05
    naive = z[present[:, 0]].mean(0) - MEAN
    assert naive.abs().max() > 0.2


def test_the_fit_has_the_largest_likelihood() -> None:
    """No step from it raises the likelihood of rows with missing cells."""
    n = 200
    z, present = draw(n), missing(n, 0.4)
    model = GaussianModel(WIDTHS, 1e-9)
    latents = split(torch.where(model._expand(present), z, 0.0))
    model.fit(latents, present)
    mean, root = model.mean.clone(), torch.linalg.cholesky(model.covariance)
    mean.requires_grad_()
    root.requires_grad_()
    loss = sum(
        -torch.distributions.MultivariateNormal(mean[seen], (root @ root.T)[seen][:, seen])
        .log_prob(z[rows][:, seen])
        .sum()
        for pattern in present.unique(dim=0)
        for rows, seen in [((present == pattern).all(1), model._expand(pattern))]
    )
    of_mean, of_root = torch.autograd.grad(loss, [mean, root])
    assert of_mean.abs().max() / n < 1e-3
    assert of_root.tril().abs().max() / n < 1e-3
    assert loss.item() / n == pytest.approx(float(model.loss(latents, present)))


def test_density_of_what_is_present() -> None:
    model, z = known_model(), draw(4)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    expected = []
    for row, pattern in zip(z, present, strict=True):
        seen = model._expand(pattern)
        expected.append(
            multivariate_normal(MEAN[seen], COVARIANCE[seen][:, seen]).logpdf(row[seen])
            if seen.any()
            else 0.0
        )
    assert model.log_density(split(z), present).tolist() == pytest.approx(expected)


def test_conditional_is_the_ratio_of_densities() -> None:
    """p(b, a | c) = p(a, b, c) / p(c), whatever the order of names."""
    model, z = known_model(), draw(3)
    latents = split(z)
    mean, covariance = model.conditional({"c": latents["c"]}, ["b", "a"])
    everything = torch.ones(3, 3, dtype=torch.bool)
    ratio = model.log_density(latents, everything) - model.log_density(
        latents, torch.tensor([False, False, True]).expand(3, 3)
    )
    wanted = torch.cat([latents["b"], latents["a"]], 1)
    density = torch.distributions.MultivariateNormal(mean, covariance).log_prob(wanted)
    assert torch.allclose(density, ratio)


@pytest.mark.parametrize("given", [[], ["b"], ["c", "a"]])
def test_samples_have_the_conditional_moments(given: list[str]) -> None:
    model, n = known_model(), 50_000
    torch.manual_seed(0)
    latents = split(draw(1))
    wanted = [name for name in reversed(WIDTHS) if name not in given]
    observed = {name: latents[name].expand(n, -1).float() for name in given}
    samples = model.sample(observed, wanted, n)
    assert list(samples) == wanted
    assert all(z.shape == (n, WIDTHS[name]) for name, z in samples.items())
    assert all(z.dtype == torch.float32 for z in samples.values())
    joint = torch.cat([*samples.values()], 1).double()
    mean, covariance = model.conditional({name: latents[name] for name in given}, wanted)
    error = 4 * float(covariance.diagonal().max()) ** 0.5 / math.sqrt(n)
    assert (joint.mean(0) - mean[0]).abs().max() < error
    assert (torch.cov(joint.T) - covariance).abs().max() < 6 * error


def test_constant_and_repeated_coordinates_are_no_obstacle() -> None:
    z = draw(50)
    z = torch.cat([z, z[:, :1], torch.zeros(50, 1)], 1)
    model = GaussianModel({**WIDTHS, "copy": 1, "constant": 1}, None)
    parts = dict(zip(model.widths, z.split([*model.widths.values()], 1), strict=True))
    model.fit(parts, torch.ones(50, 5, dtype=torch.bool))
    samples = model.sample({"copy": parts["copy"]}, ["a", "constant"], 50)
    assert all(bool(z.isfinite().all()) for z in samples.values())
    alone = GaussianModel({"only": 3}, None)
    alone.fit({"only": draw(2)[:, :3]}, torch.ones(2, 1, dtype=torch.bool))
    assert bool(alone.sample({}, ["only"], 4)["only"].isfinite().all())


def test_settings() -> None:
    with pytest.raises(ValueError, match="shrinkage"):
        GaussianConfig(shrinkage=0.0)
