from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.sampling import sample_latents
from mld_core.diffusion.standardiser import Standardiser

NONE = Guidance(0.0, 0.0)


def test_raw_latents_go_in_and_come_out(world: Any) -> None:
    """A model of standardised latents, asked in raw units, has the exact raw conditional."""
    shift, scale = torch.linspace(5, 10, 6), torch.linspace(0.5, 3, 6)
    model = replace(world.model(), standardiser=Standardiser(shift, scale, torch.zeros(6).bool()))
    b = torch.full((3000, 1), 6.0)
    samples = sample_latents(model, {"b": b}, ["c"], range(3000), steps=40, guidance=NONE)
    assert set(samples.latents) == {"b", "c"}
    assert torch.equal(samples.latents["b"], b)
    known = torch.zeros(1, 6, dtype=torch.float64)
    known[0, 2] = (6.0 - shift[2]) / scale[2]
    _, mean, covariance = world.conditional(torch.tensor([2, 1, 0]), known)
    expected_mean = mean[0] * scale[3:] + shift[3:]
    expected_std = covariance.diagonal().sqrt() * scale[3:]
    c = samples.latents["c"].double()
    assert (
        float(((c.mean(0) - expected_mean) / expected_std).abs().max()) < 4 / math.sqrt(3000) + 0.02
    )
    assert float((c.std(0) / expected_std - 1).abs().max()) < 0.07


@pytest.mark.parametrize("sampler", ["dpm-solver++", "sde-dpm-solver++", "repaint"])
def test_a_sample_does_not_depend_on_its_batch(world: Any, sampler: str) -> None:
    model, b = world.model(), torch.randn(8, 1)
    how: dict[str, Any] = {"sampler": sampler, "steps": 30}
    whole = sample_latents(model, {"b": b}, ["a", "c"], range(8), **how)
    alone = sample_latents(model, {"b": b[5:6]}, ["a", "c"], [5], **how)
    for name in ("a", "c"):
        torch.testing.assert_close(
            alone.latents[name][0], whole.latents[name][5], atol=1e-4, rtol=0
        )
    other = sample_latents(model, {"b": b[5:6]}, ["a", "c"], [6], **how)
    assert not torch.allclose(other.latents["a"], alone.latents["a"], atol=1e-2)


@pytest.mark.parametrize(
    ("observed", "wanted", "guidance", "nfe"),
    [
        ([], ["a", "b", "c"], Guidance(), 80),
        ([], ["a"], Guidance(), 20),
        (["b"], ["a", "c"], Guidance(), 60),
        (["b"], ["a"], Guidance(), 40),
        (["b"], ["a", "c"], NONE, 20),
    ],
)
def test_nfe_counts_stacked_rows(
    world: Any, observed: list[str], wanted: list[str], guidance: Guidance, nfe: float
) -> None:
    given = {name: torch.zeros(3, world.layout.dims[name]) for name in observed}
    assert sample_latents(world.model(), given, wanted, range(3), guidance=guidance).nfe == nfe


def test_guidance_narrows_the_marginal_towards_the_joint(world: Any) -> None:
    """Guided joint samples agree more: their canonical spread along the weakest direction falls."""
    model = world.model()
    free, guided = (
        torch.cat(
            list(sample_latents(model, {}, "abc", range(2000), guidance=w).latents.values()), 1
        )
        for w in (NONE, Guidance(1.0, 1.0))
    )
    assert torch.logdet(torch.cov(guided.T)) < torch.logdet(torch.cov(free.T)) - 0.5


@pytest.mark.parametrize(
    ("observed", "wanted", "seeds", "message"),
    [
        ({"x": 1}, ["a"], [0], "knows a, b, c, not x"),
        ({}, ["y"], [0], "knows a, b, c, not y"),
        ({"a": 2}, ["a"], [0], "not given"),
        ({"a": 2}, [], [0], "at least one"),
        ({"a": 2}, ["b"], [0, 1], "one observed row per seed"),
        ({"a": 3}, ["b"], [0], "a is 3 wide, expected 2"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    world: Any, observed: dict[str, int], wanted: list[str], seeds: list[int], message: str
) -> None:
    given = {name: torch.zeros(1, dim) for name, dim in observed.items()}
    with pytest.raises(ValueError, match=message):
        sample_latents(world.model(), given, wanted, seeds)


def test_the_papers_model_generates_what_nobody_wants_and_refuses_guidance(world: Any) -> None:
    model = replace(world.model(), scheme="paper")
    given = {"b": torch.zeros(2, 1)}
    samples = sample_latents(model, given, ["a"], [0, 1], guidance=NONE)
    assert set(samples.latents) == {"a", "b"}
    with pytest.raises(ValueError, match="no marginals"):
        sample_latents(model, given, ["a"], [0, 1])
