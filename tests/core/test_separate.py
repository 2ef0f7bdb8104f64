from __future__ import annotations

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.per_subset import PerSubsetMLPs
from mld_core.diffusion.roles import Role, draw_paper_roles
from mld_core.diffusion.schedule import VPSchedule

LAYOUT = LatentLayout({"a": 2, "b": 1, "c": 3})
G, O = int(Role.GENERATED), int(Role.OBSERVED)  # noqa: E741


def build() -> PerSubsetMLPs:
    torch.manual_seed(0)
    network = PerSubsetMLPs(LAYOUT, VPSchedule(), width=16, depth=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_there_is_a_network_for_every_observed_subset() -> None:
    assert len(build().networks) == 7
    with pytest.raises(ValueError, match="would be 31 networks"):
        PerSubsetMLPs(LatentLayout(dict.fromkeys("abcde", 1)), VPSchedule(), 8, 1)


def test_each_row_is_answered_by_the_network_of_what_it_observes() -> None:
    network = build()
    present = torch.ones(64, 3, dtype=torch.bool)
    roles = draw_paper_roles(present, torch.Generator().manual_seed(0))
    times = torch.where(roles == O, 0.0, 0.4)
    z = torch.randn(64, 6)
    answers = network(z, times, roles)
    for pattern in roles.unique(dim=0):
        rows = (roles == pattern).all(1)
        key = "".join(str(int(role == O)) for role in pattern)
        expected = network.networks[key](z[rows], times[rows], roles[rows])
        torch.testing.assert_close(answers[rows], expected)
    answers[(roles == G).all(1)].sum().backward()
    moved = {
        name.split(".")[1]
        for name, own in network.named_parameters()
        if own.grad is not None and bool(own.grad.any())
    }
    assert moved == {"000"}
