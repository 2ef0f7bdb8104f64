from __future__ import annotations

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.networks import PerSubsetMLPs
from mld_core.diffusion.roles import Role, draw_paper_roles
from mld_core.diffusion.schedule import VPSchedule

LAYOUT = LatentLayout.of_vectors({"a": 2, "b": 1, "c": 3})
G, O = int(Role.GENERATED), int(Role.OBSERVED)  # noqa: E741


def build() -> PerSubsetMLPs:
    torch.manual_seed(0)
    network = PerSubsetMLPs(LAYOUT, VPSchedule(), width=16, depth=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_one_network_per_observed_subset() -> None:
    assert len(build().networks) == 7
    with pytest.raises(ValueError, match="would be 31 networks"):
        PerSubsetMLPs(
            LatentLayout.of_vectors(dict.fromkeys("abcde", 1)), VPSchedule(), width=8, depth=1
        )


def test_rows_use_the_network_of_their_observed_subset() -> None:
    network = build()
    present = torch.ones(64, 3, dtype=torch.bool)
    roles = draw_paper_roles(present, torch.Generator().manual_seed(0))
    times = torch.where(roles == O, 0.0, 0.4)
    z = torch.randn(64, 6)
    eps_hat = network(z, times, roles)
    for pattern in roles.unique(dim=0):
        rows = (roles == pattern).all(1)
        key = "".join(str(int(role == O)) for role in pattern)
        expected = network.networks[key](z[rows], times[rows], roles[rows])
        torch.testing.assert_close(eps_hat[rows], expected)
    eps_hat[(roles == G).all(1)].sum().backward()
    trained = {
        name.split(".")[1]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.any())
    }
    assert trained == {"000"}
