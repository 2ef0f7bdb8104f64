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


def standard(world: Any) -> Any:
    """The same world, standardised, as latents are for a network."""
    scale = world.covariance.diagonal().sqrt()
    covariance = world.covariance / scale / scale[:, None]
    return replace(world, mean=torch.zeros_like(world.mean), covariance=covariance)


@pytest.mark.parametrize(
    ("of", "given"),
    [(("a", "b", "c"), ()), (("c",), ("a",)), (("a",), ()), (("a", "b"), ("c",))],
)
def test_the_flow_and_the_errors_give_the_exact_density(
    world: Any, of: tuple[str, ...], given: tuple[str, ...]
) -> None:
    world = standard(world)
    rows = world.rows(300)
    exact = world.log_density(rows, of, given)
    found = log_density(world.exact_model(), rows, Density(of, given))
    dims = sum(world.layout.dims[name] for name in of)
    assert float((found.standardised - exact).abs().max()) < 0.01 * dims
    assert found.evaluations > 20
    assert not found.standard_error.any()
    measure = entropy(of, given)
    errors = surprisal(world.exact_model(), rows, [measure], seed=0, shared=False)
    assert abs(errors.estimate(measure).value + float(exact.mean())) < 0.01 * dims
    told = log_density_by_errors(world.exact_model(), rows, Density(of, given))
    off = (told.standardised - exact) / told.standard_error
    assert float(off.square().mean().sqrt()) < 1.7
    assert told.evaluations == 256


def test_raw_densities_are_per_unit_of_raw_latents(world: Any) -> None:
    scale = torch.linspace(0.5, 3, 6)
    standardiser = Standardiser(torch.linspace(5, 10, 6), scale, torch.zeros(6).bool())
    model = replace(world.exact_model(), standardiser=standardiser)
    rows = world.rows(20)
    raw = world.layout.split(standardiser.restore(world.layout.concatenate(rows)))
    exact = world.log_density(rows, ("c",), ("b",))
    density = Density(("c",), ("b",))
    found = log_density(model, raw, density)
    assert float((found.standardised - exact).abs().max()) < 0.03
    for told in (found, log_density_by_errors(model, raw, density)):
        scaled = told.standardised - scale[3:].double().log().sum()
        torch.testing.assert_close(told.raw, scaled.to(told.raw))


def test_hutchinsons_estimate_is_right_where_dimensions_are_many(gaussian_world: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(40, 80, generator=generator, dtype=torch.float64) / 80**0.5
    layout = LatentLayout({"x": 25, "y": 15})
    world = gaussian_world(layout, torch.zeros(40).double(), root @ root.T)
    rows = world.rows(100)
    exact = world.log_density(rows, ("x",), ("y",))
    whole = log_density(world.exact_model(), rows, Density(("x",), ("y",)))
    assert float((whole.standardised - exact).abs().max()) < 0.01 * 25
    probed = log_density(world.exact_model(), rows, Density(("x",), ("y",)), exact=24)
    assert float((probed.standardised - exact).mean().abs()) < 0.01 * 25
    assert float((probed.standardised - whole.standardised).abs().max()) > 1e-3


def test_an_independent_models_absent_latents_are_noise(world: Any) -> None:
    """Its network is asked with fresh noise at time 1, as it was trained."""
    seen = []

    def watch(z: Any, times: Any, roles: Any) -> Any:
        seen.append(z.detach()[:, :2])
        return world.predict_noise(z, times, roles)

    model = replace(world.exact_model(), scheme="independent", predict_noise=watch)
    log_density(model, world.rows(30), Density(("c",)))
    surprisal(model, world.rows(30), [entropy("c")], seed=0, shared=False, nodes=16)
    assert all(float(own.abs().min()) > 0 for own in seen)


def test_what_the_model_does_not_know_is_refused(world: Any) -> None:
    rows = world.rows(30)
    with pytest.raises(ValueError, match="no marginals"):
        log_density(replace(world.exact_model(), scheme="paper"), rows, Density(("a",)))
    with pytest.raises(ValueError, match="no latents of d"):
        log_density(world.exact_model(), rows, Density(("d",)))
