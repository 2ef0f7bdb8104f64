from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.diffusion.purpose import Purpose
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import T_MIN, VPSchedule

G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
LAYOUT = LatentLayout.of_vectors({"a": 2, "b": 1, "c": 3})
ROLES = torch.tensor([[G, G, G], [G, O, A], [O, A, G]])


@pytest.mark.parametrize(
    ("purpose", "uniform", "mean", "std"),
    [("samples", 0.1, -0.5, 2.0), ("information", 0.3, 1.0, 2.5)],
)
def test_distribution_of_training_times(
    purpose: Purpose, uniform: float, mean: float, std: float
) -> None:
    schedule = VPSchedule()
    t = draw_times(20_000, schedule, torch.Generator().manual_seed(0), purpose)
    assert float(t.min()) >= T_MIN
    assert float(t.max()) <= 1
    log_snr = schedule.log_snr(t.double())
    low, high = schedule.log_snr(torch.tensor([1.0, T_MIN]).double()).tolist()
    for edge in (-6.0, -1.5, 0.0, 1.5, 6.0):
        normal = 0.5 * (1 + math.erf((edge - mean) / std / math.sqrt(2)))
        expected = uniform * (edge - low) / (high - low) + (1 - uniform) * normal
        assert (log_snr < edge).double().mean().item() == pytest.approx(expected, abs=2e-3)
    assert not torch.equal(t, t.sort().values)


def test_multi_time_vector_by_role() -> None:
    t = torch.tensor([[0.2], [0.3], [0.4]])
    expected = torch.tensor([[0.2, 0.2, 0.2], [0.3, 0.0, 1.0], [0.0, 1.0, 0.4]])
    assert torch.equal(multi_time_vector(t, ROLES), expected)


def test_diffuse_by_role() -> None:
    schedule = VPSchedule()
    z, eps, absent_fill = torch.randn(3, 6), torch.randn(3, 6), torch.full((3, 6), 9.0)
    times = multi_time_vector(torch.tensor([[0.2], [0.3], [0.4]]), ROLES)
    out = diffuse(z, eps, times, ROLES, absent_fill, LAYOUT, schedule)
    t = torch.tensor(0.3)
    noisy = schedule.alpha(t) * z[1, :2] + schedule.sigma(t) * eps[1, :2]
    torch.testing.assert_close(out[1, :2], noisy)
    assert torch.equal(out[1, 2], z[1, 2])
    assert torch.equal(out[1, 3:], absent_fill[1, 3:])


def test_masked_loss_is_the_mean_of_row_means() -> None:
    eps, eps_hat = torch.zeros(3, 6), torch.full((3, 6), 1000.0)
    eps_hat[0] = torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0, 3.0])
    eps_hat[1, :2] = 2.0
    eps_hat[2, 3:] = torch.tensor([0.0, 0.0, 3.0])
    # Almost clean, so that alpha is 1 and the velocity's error that of the noise.
    times = multi_time_vector(torch.full((3, 1), T_MIN), ROLES)
    total, parts = masked_loss(eps_hat, eps, times, ROLES, LAYOUT, VPSchedule(), 0.0)
    rows = [(1 + 1 + 4 + 9 * 3) / 6, 4.0, 3.0]
    assert total.item() == pytest.approx(sum(rows) / 3)
    assert parts["a"].item() == pytest.approx((1 + 1 + 4 + 4) / 4)
    assert parts["b"].item() == pytest.approx(4)
    assert parts["c"].item() == pytest.approx((27 + 9) / 6)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_between_coordinates_and_modalities(balance: float) -> None:
    eps_hat = torch.tensor([[1.0, 1.0, 2.0, 3.0, 3.0, 3.0]] * 2)
    roles = torch.tensor([[G, G, G], [G, O, G]])
    clean = multi_time_vector(torch.full((2, 1), T_MIN), roles)
    total, parts = masked_loss(
        eps_hat, torch.zeros(2, 6), clean, roles, LAYOUT, VPSchedule(), balance
    )
    a, b, c = 2 ** (1 - balance), 1.0, 3 ** (1 - balance)
    rows = [(a * 1 + b * 4 + c * 9) / (a + b + c), (a * 1 + c * 9) / (a + c)]
    assert total.item() == pytest.approx(sum(rows) / 2, rel=1e-5)
    # By modality the loss is a plain mean, whatever the balance.
    assert [parts[name].item() for name in "abc"] == pytest.approx([1, 4, 9])


def test_rows_without_generated_modalities_are_ignored() -> None:
    roles = torch.tensor([[G, O, A], [O, O, A]])
    eps_hat = torch.ones(2, 6, requires_grad=True)
    clean, schedule = torch.full((2, 3), T_MIN), VPSchedule()
    total, parts = masked_loss(eps_hat, torch.zeros(2, 6), clean, roles, LAYOUT, schedule, 0.0)
    assert total.item() == pytest.approx(1)
    assert parts["a"].item() == pytest.approx(1)
    assert parts["b"].item() == parts["c"].item() == 0
    observed = torch.full((2, 3), O)
    nothing, _ = masked_loss(eps_hat, torch.zeros(2, 6), clean, observed, LAYOUT, schedule, 0.0)
    assert nothing.item() == 0
    total.backward()
    assert eps_hat.grad is not None
    assert torch.equal(eps_hat.grad != 0, LAYOUT.expand(roles == G))


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_loss_is_the_velocity_error(shift: float) -> None:
    """That of latents of unit variance, at the shifted log-SNR."""
    schedule, z = VPSchedule(), torch.randn(3, 6)
    eps, eps_hat = torch.randn(3, 6), torch.randn(3, 6)
    roles = torch.full((3, 3), G)
    times = torch.tensor([[0.1], [0.4], [0.9]]).expand(-1, 3)
    layout = replace(LAYOUT, shift=dict.fromkeys(LAYOUT.names, shift))
    t = LAYOUT.expand(schedule.time_at_log_snr(schedule.log_snr(times) - shift))
    noisy = schedule.alpha(t) * z + schedule.sigma(t) * eps
    z_hat = (noisy - schedule.sigma(t) * eps_hat) / schedule.alpha(t)
    v, v_hat = (
        schedule.alpha(t) * e - schedule.sigma(t) * data for e, data in ((eps, z), (eps_hat, z_hat))
    )
    total, _ = masked_loss(eps_hat, eps, times, roles, layout, schedule, 0.0)
    assert total.item() == pytest.approx((v_hat - v).square().mean().item(), rel=1e-3)
