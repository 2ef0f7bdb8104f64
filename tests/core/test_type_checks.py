"""Every call of the core is checked against the types and shapes in its signature."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.schedule import VPSchedule


def test_calls_that_differ_from_checked_ones_are_checked() -> None:
    layout, schedule = LatentLayout.of_vectors({"a": 2, "b": 1}), VPSchedule()
    z = torch.zeros(4, 3)
    for rows in (z, z, z[:2]):
        assert set(layout.split(rows)) == {"a", "b"}
        schedule.score_from_noise(rows, rows[:, :1])
    with pytest.raises(TypeCheckError, match="split"):
        layout.split(z.int())
    with pytest.raises(TypeCheckError, match="score_from_noise"):
        schedule.score_from_noise(z, torch.zeros(3, 1))
    with pytest.raises(TypeCheckError, match="split"):
        layout.split([z])  # type: ignore[arg-type]
