from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.networks import NETWORKS
from mld_core.diffusion.role_schemes import RoleScheme
from mld_core.diffusion.sampling import sample_latents, sample_missing
from mld_core.diffusion.standardiser import Standardiser

NONE = Guidance(0.0, 0.0)


def test_samples_are_raw_latents(gaussian: Any) -> None:
    """The model is of standardised latents, its samples follow the conditional of raw ones."""
    shift, scale = torch.linspace(5, 10, 6), torch.linspace(0.5, 3, 6)
    model = replace(
        gaussian.model(), standardiser=Standardiser(shift, scale, torch.zeros(6).bool())
    )
    b = torch.full((3000, 1), 6.0)
    samples = sample_latents(model, {"b": b}, ["c"], range(3000), steps=40, guidance=NONE)
    assert set(samples.latents) == {"b", "c"}
    assert torch.equal(samples.latents["b"], b)
    observed = torch.zeros(1, 6, dtype=torch.float64)
    observed[0, 2] = (6.0 - shift[2]) / scale[2]
    _, mean, covariance = gaussian.conditional(torch.tensor([2, 1, 0]), observed)
    expected_mean = mean[0] * scale[3:] + shift[3:]
    expected_std = covariance.diagonal().sqrt() * scale[3:]
    c = samples.latents["c"].double()
    assert (
        float(((c.mean(0) - expected_mean) / expected_std).abs().max()) < 4 / math.sqrt(3000) + 0.02
    )
    assert float((c.std(0) / expected_std - 1).abs().max()) < 0.07


@pytest.mark.parametrize("sampler", ["dpm-solver++", "sde-dpm-solver++", "repaint"])
def test_samples_do_not_depend_on_the_batch(gaussian: Any, sampler: str) -> None:
    model, b = gaussian.model(), torch.randn(8, 1)
    settings: dict[str, Any] = {"sampler": sampler, "steps": 12}
    batch = sample_latents(model, {"b": b}, ["a", "c"], range(8), **settings)
    single = sample_latents(model, {"b": b[5:6]}, ["a", "c"], [5], **settings)
    for name in ("a", "c"):
        torch.testing.assert_close(
            single.latents[name][0], batch.latents[name][5], atol=1e-4, rtol=0
        )
    other = sample_latents(model, {"b": b[5:6]}, ["a", "c"], [6], **settings)
    assert not torch.allclose(other.latents["a"], single.latents["a"], atol=1e-2)


@pytest.mark.parametrize("kind", [None, "residual-mlp", "unet-mlp", "transformer", "per-subset"])
@pytest.mark.parametrize("scheme", ["three-role", "independent", "paper"])
def test_rows_with_other_missing_modalities_are_sampled_together(
    gaussian: Any, kind: str | None, scheme: RoleScheme
) -> None:
    """Each as it is alone; None is the exact score of a normal distribution."""
    model = replace(gaussian.model(), scheme=scheme)
    if kind is not None:
        torch.manual_seed(0)
        reads_roles = scheme != "independent"
        network = NETWORKS[kind](
            model.layout, model.schedule, width=32, depth=1, reads_roles=reads_roles
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        model = replace(model, predict_noise=network.eval())
    z = torch.randn(4, 6)
    observed = torch.tensor([[0, 1, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]).bool()
    wanted = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1]]).bool()
    together = model.layout.split(sample_missing(model, z, observed, wanted, range(4)))
    for row in range(4):
        pick = [
            [name for name, has in zip("abc", part[row].tolist(), strict=True) if has]
            for part in (observed, wanted)
        ]
        given = {name: model.layout.split(z)[name][row : row + 1] for name in pick[0]}
        alone = sample_latents(model, given, pick[1], [row], guidance=NONE)
        for name, latent in alone.latents.items():
            torch.testing.assert_close(together[name][row], latent[0], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="none of the observed ones"):
        sample_missing(model, z, observed, observed, range(4))


@pytest.mark.parametrize("kind", ["residual-mlp", "unet-mlp", "transformer", "per-subset"])
@pytest.mark.parametrize("scheme", ["three-role", "independent", "paper", "joint"])
@pytest.mark.parametrize("observed", ["", "b", "bc"])
def test_sharing_of_times_and_roles_changes_no_sample(
    gaussian: Any, kind: str, scheme: RoleScheme, observed: str
) -> None:
    """Samples are those of a network that is given every row with its own times and roles."""
    if (scheme == "joint" and observed) or (kind == "per-subset" and scheme != "paper"):
        pytest.skip("not trained for this")
    torch.manual_seed(0)
    settings = {"width": 16, "depth": 2, "reads_roles": scheme != "independent"}
    network = NETWORKS[kind](gaussian.layout, gaussian.schedule, **settings).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)

    def row_by_row(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        each = (x.expand(*z.shape[:-1], -1).flatten(0, -2) for x in (z, times, roles))
        eps: Tensor = network(*each)
        return eps.view_as(z)

    given = {name: torch.randn(6, gaussian.layout.dims[name]) for name in observed}
    wanted = [name for name in "ab" if name not in observed]  # c is absent unless observed
    shared, separate = (
        replace(gaussian.model(), predict_noise=predict_noise, scheme=scheme)
        for predict_noise in (network, row_by_row)
    )
    guided = Guidance(2.0, 0.5, (0.0, 0.7))
    for guidance in (NONE, guided) if shared.has_marginals else (NONE,):
        samples, expected = (
            sample_latents(model, given, wanted, range(6), steps=8, guidance=guidance)
            for model in (shared, separate)
        )
        assert samples.nfe == expected.nfe
        row = {name: latent[4:5] for name, latent in given.items()}
        alone = sample_latents(shared, row, wanted, [4], steps=8, guidance=guidance)
        for name in wanted:
            latents = samples.latents[name]
            torch.testing.assert_close(latents, expected.latents[name], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(alone.latents[name][0], latents[4], atol=1e-4, rtol=1e-4)


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
    gaussian: Any, observed: list[str], wanted: list[str], guidance: Guidance, nfe: float
) -> None:
    given = {name: torch.zeros(3, gaussian.layout.dims[name]) for name in observed}
    assert sample_latents(gaussian.model(), given, wanted, range(3), guidance=guidance).nfe == nfe


def test_negative_guidance_tempers_the_dependence(gaussian: Any) -> None:
    """From the exact conditional without guidance to the exact marginal at −1."""
    model, b, n = gaussian.model(), torch.full((3000, 1), 2.0), 3000
    observed = torch.zeros(1, 6, dtype=torch.float64)
    observed[0, 2] = 2.0
    _, conditional_mean, conditional = gaussian.conditional(torch.tensor([2, 1, 0]), observed)
    _, marginal_mean, marginal = gaussian.conditional(torch.tensor([2, 2, 0]), observed)
    exact = [
        (conditional_mean[0], conditional.diagonal().sqrt()),
        (marginal_mean[0], marginal.diagonal().sqrt()),
    ]
    spreads = []
    for weight in (0.0, -0.5, -1.0):
        guidance = Guidance(weight, weight)
        c = sample_latents(model, {"b": b}, ["c"], range(n), steps=40, guidance=guidance)
        z = c.latents["c"].double()
        spreads.append(float(z.std(0).mean()))
        if weight != -0.5:
            mean, std = exact[0 if weight == 0 else 1]
            assert float(((z.mean(0) - mean) / std).abs().max()) < 4 / math.sqrt(n) + 0.02
            assert float((z.std(0) / std - 1).abs().max()) < 0.07
    assert spreads[0] < spreads[1] < spreads[2]


def test_guidance_reduces_the_joint_variance(gaussian: Any) -> None:
    """Guided joint samples depend more on each other: the determinant of their covariance falls."""
    model = gaussian.model()
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
        ({"x": 1}, ["a"], [0], "has modalities a, b, c, not x"),
        ({}, ["y"], [0], "has modalities a, b, c, not y"),
        ({"a": 2}, ["a"], [0], r"disjoint from `observed` \(overlap: \['a'\]\)"),
        ({"a": 2}, [], [0], "`wanted` must be non-empty"),
        ({}, ["a"], [], "at least one seed"),
        ({"a": 2}, ["b"], [0, 1], r"one observed row per seed \(2 seeds\), got \{'a': 1\}"),
        ({"a": 3}, ["b"], [0], "a is 3 wide, expected 2"),
    ],
)
def test_invalid_requests_are_rejected(
    gaussian: Any, observed: dict[str, int], wanted: list[str], seeds: list[int], message: str
) -> None:
    given = {name: torch.zeros(1, dim) for name, dim in observed.items()}
    with pytest.raises(ValueError, match=message):
        sample_latents(gaussian.model(), given, wanted, seeds)


def test_paper_scheme_samples_without_guidance(gaussian: Any) -> None:
    model = replace(gaussian.model(), scheme="paper")
    given = {"b": torch.zeros(2, 1)}
    samples = sample_latents(model, given, ["a"], [0, 1], guidance=NONE)
    assert set(samples.latents) == {"a", "b"}
    with pytest.raises(ValueError, match="no marginals"):
        sample_latents(model, given, ["a"], [0, 1])
