from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from mld.diffuse import Denoising
from mld.sections import DiffuseSpec
from mld_core.layout import LatentLayout
from mld_core.roles import Role
from mld_core.schedule import VPSchedule


class Onlooker(nn.Module):
    """Remembers what it was asked, and answers with no noise."""

    def forward(self, z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        self.times, self.roles = times, roles
        return torch.zeros_like(z)


@pytest.mark.parametrize(
    ("told", "share"),
    [({}, 0.0), ({"own_times": 0.5}, 0.5), ({"roles": "independent"}, 1.0)],
)
def test_generated_modalities_have_their_own_times_as_often_as_told(
    told: dict[str, object], share: float
) -> None:
    onlooker = Onlooker()
    layout = LatentLayout({"left": 1, "right": 1})
    objective = Denoising(DiffuseSpec.model_validate(told), layout, VPSchedule(), onlooker)
    batch = {"z": torch.zeros(4_000, 2), "present": torch.ones(4_000, 2).bool()}
    objective(batch, Generator().manual_seed(0))
    joint = onlooker.times[(onlooker.roles == Role.GENERATED).all(1)]
    own = (joint[:, 0] != joint[:, 1]).double().mean().item()
    assert own == pytest.approx(share, abs=0.03)
    assert bool((onlooker.times[onlooker.roles == Role.OBSERVED] == 0).all())
