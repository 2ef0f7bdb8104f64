from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

LAYOUT = LatentLayout.of_vectors({"a": 2, "b": 3})


def test_present_rows_get_zero_mean_and_unit_variance() -> None:
    z = torch.randn(500, 5) * torch.tensor([1.0, 20.0, 0.1, 3.0, 5.0]) + 7
    present = torch.rand(500, 2) < 0.6
    z = torch.where(LAYOUT.expand(present), z, 1e6)  # missing cells must not count
    standardiser = Standardiser.fit(z, present, LAYOUT)
    for index, latent in enumerate(LAYOUT.split(standardiser.standardise(z)).values()):
        rows = latent[present[:, index]].double()
        torch.testing.assert_close(rows.mean(0), torch.zeros_like(rows[0]), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            rows.var(0, correction=0), torch.ones_like(rows[0]), rtol=1e-4, atol=0
        )
    torch.testing.assert_close(standardiser.unstandardise(standardiser.standardise(z)), z)


def test_dead_coordinates_are_not_scaled() -> None:
    z = torch.randn(200, 5)
    z[:, 3] = 4.0 + 1e-7 * torch.randn(200)
    standardiser = Standardiser.fit(z, torch.ones(200, 2).bool(), LAYOUT)
    assert standardiser.dead.tolist() == [False, False, False, True, False]
    assert standardiser.std[3] == 1
    assert bool(standardiser.standardise(z)[:, 3].abs().max() < 1e-5)


def test_modality_present_in_one_row_is_rejected() -> None:
    present = torch.ones(4, 2).bool()
    present[1:, 1] = False
    with pytest.raises(ValueError, match="b is present in 1 rows"):
        Standardiser.fit(torch.randn(4, 5), present, LAYOUT)


def test_channels_of_sequences_and_grids_share_their_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the chunks in which the rows are read, and where rows are missing."""
    monkeypatch.setattr("mld_core.diffusion.standardiser.CHUNK_NUMBERS", 50)
    layout = LatentLayout({"grid": (2, 3, 4), "sequence": (5, 3), "vector": (2,)})
    z = 3 + torch.randn(60, layout.joint_dim) * torch.rand(layout.joint_dim)
    present = torch.rand(60, 3) < 0.7
    standardiser = Standardiser.fit(z, present, layout)
    grid, sequence = z[present[:, 0], :24].view(-1, 2, 12), z[present[:, 1], 24:39].view(-1, 5, 3)
    expected_std = [
        grid.std((0, 2), correction=0).repeat_interleave(12),
        sequence.std((0, 1), correction=0).repeat(5),
        z[present[:, 2], 39:].std(0, correction=0),
    ]
    expected_mean = [
        grid.mean((0, 2)).repeat_interleave(12),
        sequence.mean((0, 1)).repeat(5),
        z[present[:, 2], 39:].mean(0),
    ]
    torch.testing.assert_close(standardiser.std, torch.cat(expected_std))
    torch.testing.assert_close(standardiser.mean, torch.cat(expected_mean))


def test_a_shift_lowers_the_log_snr() -> None:
    """As if the time were that of the shifted log-SNR, up to a scale."""
    schedule, t, shift = VPSchedule(), torch.tensor(0.3), 1.5
    z = 4 + 3 * torch.randn(4000, 5)
    fitted = Standardiser.fit(z, torch.ones(4000, 2).bool(), LAYOUT)
    latents = fitted.shifted(replace(LAYOUT, shift={"b": shift})).standardise(z)
    assert torch.equal(latents[:, :2], fitted.standardise(z)[:, :2])
    signal = (schedule.alpha(t) * latents[:, 2:]).var()
    log_snr = (signal / schedule.sigma(t) ** 2).log()
    torch.testing.assert_close(log_snr, schedule.log_snr(t) - shift, atol=1e-3, rtol=0)
