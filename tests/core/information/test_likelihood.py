"""With the exact score of Gaussian latents, every log-density is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser
from mld_core.information.estimator import surprisal
from mld_core.information.likelihood import log_density, log_density_by_errors
from mld_core.information.measures import Density, entropy


def standard(gaussian: Any) -> Any:
    """The same distribution with unit variances, as a network is trained on."""
    scale = gaussian.covariance.diagonal().sqrt()
    covariance = gaussian.covariance / scale / scale[:, None]
    return replace(gaussian, mean=torch.zeros_like(gaussian.mean), covariance=covariance)


@pytest.mark.parametrize(
    ("of", "given"),
    [(("a", "b", "c"), ()), (("c",), ("a",)), (("a",), ()), (("a", "b"), ("c",))],
)
def test_flow_and_errors_give_the_exact_density(
    gaussian: Any, of: tuple[str, ...], given: tuple[str, ...]
) -> None:
    gaussian = standard(gaussian)
    rows = gaussian.rows(300)
    exact = gaussian.log_density(rows, of, given)
    by_flow = log_density(gaussian.exact_model(), rows, Density(of, given))
    dims = sum(gaussian.layout.dims[name] for name in of)
    assert float((by_flow.standardised - exact).abs().max()) < 0.01 * dims
    assert by_flow.evaluations > 20
    assert not by_flow.standard_error.any()
    measure = entropy(of, given)
    errors = surprisal(gaussian.exact_model(), rows, [measure], seed=0, shared=False)
    assert abs(errors.estimate(measure).value + float(exact.mean())) < 0.01 * dims
    by_errors = log_density_by_errors(gaussian.exact_model(), rows, Density(of, given))
    z_scores = (by_errors.standardised - exact) / by_errors.standard_error
    assert float(z_scores.square().mean().sqrt()) < 1.7
    assert by_errors.evaluations == 256


def test_raw_density_is_that_of_raw_latents(gaussian: Any) -> None:
    scale = torch.linspace(0.5, 3, 6)
    standardiser = Standardiser(torch.linspace(5, 10, 6), scale, torch.zeros(6).bool())
    model = replace(gaussian.exact_model(), standardiser=standardiser)
    rows = gaussian.rows(20)
    raw = gaussian.layout.split(standardiser.unstandardise(gaussian.layout.concatenate(rows)))
    exact = gaussian.log_density(rows, ("c",), ("b",))
    density = Density(("c",), ("b",))
    by_flow = log_density(model, raw, density)
    assert float((by_flow.standardised - exact).abs().max()) < 0.03
    for result in (by_flow, log_density_by_errors(model, raw, density)):
        scaled = result.standardised - scale[3:].double().log().sum()
        torch.testing.assert_close(result.raw, scaled.to(result.raw))


def test_hutchinson_estimate_in_many_dimensions(gaussian_latents: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(40, 80, generator=generator, dtype=torch.float64) / 80**0.5
    layout = LatentLayout.of_vectors({"x": 25, "y": 15})
    gaussian = gaussian_latents(layout, torch.zeros(40).double(), root @ root.T)
    rows = gaussian.rows(100)
    exact = gaussian.log_density(rows, ("x",), ("y",))
    exact_trace = log_density(gaussian.exact_model(), rows, Density(("x",), ("y",)))
    assert float((exact_trace.standardised - exact).abs().max()) < 0.01 * 25
    probed = log_density(gaussian.exact_model(), rows, Density(("x",), ("y",)), max_exact_dim=24)
    assert float((probed.standardised - exact).mean().abs()) < 0.01 * 25
    assert float((probed.standardised - exact_trace.standardised).abs().max()) > 1e-3


def test_independent_scheme_fills_absent_latents_with_noise(gaussian: Any) -> None:
    """Its network reads fresh noise at time 1, as in training."""
    seen = []

    def watching(z: Any, times: Any, roles: Any) -> Any:
        seen.append(z.detach()[:, :2])
        return gaussian.predict_noise(z, times, roles)

    model = replace(gaussian.exact_model(), scheme="independent", predict_noise=watching)
    log_density(model, gaussian.rows(30), Density(("c",)))
    surprisal(model, gaussian.rows(30), [entropy("c")], seed=0, shared=False, nodes=16)
    assert all(float(absent.abs().min()) > 0 for absent in seen)


def test_densities_without_training_are_rejected(gaussian: Any) -> None:
    rows = gaussian.rows(30)
    with pytest.raises(ValueError, match="no marginals"):
        log_density(replace(gaussian.exact_model(), scheme="paper"), rows, Density(("a",)))
    with pytest.raises(ValueError, match="no latents of d"):
        log_density(gaussian.exact_model(), rows, Density(("d",)))
