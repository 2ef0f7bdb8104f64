from __future__ import annotations

import pytest
import torch

from mld_core.diffusion.limits import MAX_BETA_SUM
from mld_core.diffusion.schedule import T_MIN, VPSchedule

TIMES = torch.tensor([T_MIN, 1e-4, 0.01, 0.1, 0.3, 0.7, 1.0], dtype=torch.float64)


@pytest.fixture(params=[(0.1, 20.0), (1.0, 1.0), (0.5, 5.0)])
def schedule(request: pytest.FixtureRequest) -> VPSchedule:
    return VPSchedule(*request.param)


def test_variance_is_preserved(schedule: VPSchedule) -> None:
    total = schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2
    torch.testing.assert_close(total, torch.ones_like(total))


def test_published_constants() -> None:
    # log alpha = −0.25 t² (19.9) − 0.05 t at the usual betas, so alpha(1) = exp(−5.025).
    alpha = VPSchedule().alpha(torch.tensor([0.5, 1.0], dtype=torch.float64))
    expected = torch.tensor([-0.25 * 0.25 * 19.9 - 0.025, -5.025], dtype=torch.float64).exp()
    torch.testing.assert_close(alpha, expected)


def test_sigma_is_precise_at_small_times() -> None:
    t = torch.tensor([1e-6, 1e-5, 1e-4])
    exact = (
        0.1 * t.double() + 9.95 * t.double() ** 2
    ).sqrt()  # to first order in the integral of beta
    torch.testing.assert_close(VPSchedule().sigma(t).double(), exact, rtol=2e-5, atol=0)


def test_alpha_solves_its_differential_equation(schedule: VPSchedule) -> None:
    t = TIMES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.alpha(t).log().sum(), t)
    torch.testing.assert_close(slope, -schedule.beta(TIMES) / 2)


def test_log_snr_and_its_derivative(schedule: VPSchedule) -> None:
    t = TIMES.clone().requires_grad_()
    log_snr = schedule.log_snr(t)
    ratio = (schedule.alpha(TIMES) / schedule.sigma(TIMES)).log() * 2
    torch.testing.assert_close(log_snr.detach(), ratio)
    (slope,) = torch.autograd.grad(log_snr.sum(), t)
    torch.testing.assert_close(slope, -schedule.beta(TIMES) / schedule.sigma(TIMES) ** 2)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_time_inverts_log_snr(schedule: VPSchedule, dtype: torch.dtype, rtol: float) -> None:
    times = TIMES.to(dtype)
    back = schedule.time_at_log_snr(schedule.log_snr(times))
    torch.testing.assert_close(back, times, rtol=rtol, atol=0)


def test_latents_of_another_scale_are_divided_to_unit_variance(schedule: VPSchedule) -> None:
    """alpha' and sigma' are those of the shifted log-SNR; 1 changes no bit."""
    latent_std = torch.tensor([1.0, 0.25, 1.5], dtype=torch.float64)
    times = TIMES[:, None].expand(-1, 3)
    alpha, sigma, std = schedule.of_unit_variance(times, latent_std)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    log_snr = schedule.log_snr(times) + 2 * latent_std.log()
    torch.testing.assert_close(2 * (alpha / sigma).log(), log_snr)
    torch.testing.assert_close(std * sigma, schedule.sigma(times))
    assert torch.equal(alpha[:, 0], schedule.alpha(TIMES))
    assert torch.equal(sigma[:, 0], schedule.sigma(TIMES))
    clean = schedule.of_unit_variance(torch.zeros(1, 1), torch.tensor([1e-3]))
    assert [part.item() for part in clean] == pytest.approx([1.0, 0.0, 1e-3])


def test_score_from_noise_is_the_gradient() -> None:
    schedule = VPSchedule()
    z0 = torch.randn(4, 3, dtype=torch.float64)
    eps = torch.randn(4, 3, dtype=torch.float64)
    t = torch.tensor([[0.01], [0.2], [0.5], [1.0]], dtype=torch.float64)
    z = (schedule.alpha(t) * z0 + schedule.sigma(t) * eps).requires_grad_()
    log_p = -((z - schedule.alpha(t) * z0) ** 2 / (2 * schedule.sigma(t) ** 2)).sum()
    (gradient,) = torch.autograd.grad(log_p, z)
    score = schedule.score_from_noise(eps, t)
    torch.testing.assert_close(score, gradient)
    torch.testing.assert_close(-score * schedule.sigma(t), eps)


@pytest.mark.parametrize("betas", [(0.0, 20.0), (2.0, 1.0)])
def test_invalid_betas_are_rejected(betas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < beta_min <= beta_max"):
        VPSchedule(*betas)


def test_beta_sum_limit_keeps_float32_finite() -> None:
    one = torch.tensor(1.0)
    schedule = VPSchedule(0.1, MAX_BETA_SUM - 0.1)
    assert bool(schedule.log_snr(one).isfinite())
    assert bool((1 / schedule.alpha(one)).square().isfinite())
    with pytest.raises(ValueError, match=r"beta_min \+ beta_max <= 160, got 0.1 \+ 160.0"):
        VPSchedule(0.1, MAX_BETA_SUM)
