from __future__ import annotations

import pytest
import torch

from mld_core.layout import LatentLayout
from mld_core.multitime import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.roles import Role
from mld_core.schedule import T_MIN, VPSchedule

G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
LAYOUT = LatentLayout({"a": 2, "b": 1, "c": 3})
ROLES = torch.tensor([[G, G, G], [G, O, A], [O, A, G]])


def test_times_are_stratified_over_the_whole_interval() -> None:
    t = draw_times(1000, torch.Generator().manual_seed(0))
    assert float(t.min()) >= T_MIN
    assert float(t.max()) <= 1
    in_slices = ((t - T_MIN) / (1 - T_MIN) * 1000).floor().clamp(0, 999).unique()
    assert len(in_slices) > 990  # one each, up to rounding at the borders
    assert not torch.equal(t, t.sort().values)


def test_multi_time_vector_is_0_where_observed_and_1_where_absent() -> None:
    t = torch.tensor([[0.2], [0.3], [0.4]])
    expected = torch.tensor([[0.2, 0.2, 0.2], [0.3, 0.0, 1.0], [0.0, 1.0, 0.4]])
    assert torch.equal(multi_time_vector(t, ROLES), expected)


def test_diffuse_noises_the_generated_keeps_the_observed_and_blanks_the_absent() -> None:
    schedule = VPSchedule()
    z, eps, blank = torch.randn(3, 6), torch.randn(3, 6), torch.full((3, 6), 9.0)
    times = multi_time_vector(torch.tensor([[0.2], [0.3], [0.4]]), ROLES)
    out = diffuse(z, eps, times, ROLES, blank, LAYOUT, schedule)
    t = torch.tensor(0.3)
    noisy = schedule.alpha(t) * z[1, :2] + schedule.sigma(t) * eps[1, :2]
    torch.testing.assert_close(out[1, :2], noisy)
    assert torch.equal(out[1, 2], z[1, 2])
    assert torch.equal(out[1, 3:], blank[1, 3:])


def test_masked_loss_is_the_mean_of_row_means_and_ignores_the_rest() -> None:
    eps, eps_hat = torch.zeros(3, 6), torch.full((3, 6), 1000.0)
    eps_hat[0] = torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0, 3.0])
    eps_hat[1, :2] = 2.0
    eps_hat[2, 3:] = torch.tensor([0.0, 0.0, 3.0])
    total, parts = masked_loss(eps_hat, eps, ROLES, LAYOUT)
    rows = [(1 + 1 + 4 + 9 * 3) / 6, 4.0, 3.0]
    assert total.item() == pytest.approx(sum(rows) / 3)
    assert parts["a"].item() == pytest.approx((1 + 1 + 4 + 4) / 4)
    assert parts["b"].item() == pytest.approx(4)
    assert parts["c"].item() == pytest.approx((27 + 9) / 6)


def test_rows_that_generate_nothing_do_not_dilute_the_loss_nor_make_it_nan() -> None:
    roles = torch.tensor([[G, O, A], [O, O, A]])
    eps_hat = torch.ones(2, 6, requires_grad=True)
    total, parts = masked_loss(eps_hat, torch.zeros(2, 6), roles, LAYOUT)
    assert total.item() == 1
    assert parts["a"].item() == 1
    assert parts["b"].item() == parts["c"].item() == 0
    nothing, _ = masked_loss(eps_hat, torch.zeros(2, 6), torch.full((2, 3), O), LAYOUT)
    assert nothing.item() == 0
    total.backward()
    assert eps_hat.grad is not None
    assert torch.equal(eps_hat.grad != 0, LAYOUT.expand(roles == G))
