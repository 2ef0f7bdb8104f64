"""A network that takes over the parameters of an earlier one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.networks import NETWORKS
from mld_core.diffusion.networks.score_network import ScoreNetwork
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.warm_start import take_over

SETTINGS: dict[str, dict[str, Any]] = {
    "residual-mlp": {"width": 32, "depth": 2},
    "unet-mlp": {"width": 32, "depth": 1},
    "transformer": {"width": 32, "depth": 2, "heads": 2},
}
EARLIER = {"a": (3,), "b": (4, 2)}
MORE = {"b": (4, 2), "new": (5,), "a": (3,)}


def network(kind: str, shapes: dict[str, tuple[int, ...]], seed: int) -> ScoreNetwork:
    """One whose parameters are as varied as those of a trained network."""
    torch.manual_seed(seed)
    built = NETWORKS[kind](LatentLayout(shapes), VPSchedule(), **SETTINGS[kind])
    assert isinstance(built, ScoreNetwork)
    return built.eval()


def trained(kind: str, shapes: dict[str, tuple[int, ...]] = EARLIER) -> ScoreNetwork:
    built = network(kind, shapes, seed=1)
    for parameter in built.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return built


def predict(
    net: ScoreNetwork, latents: dict[str, Tensor], roles: dict[str, int]
) -> dict[str, Tensor]:
    layout = net.layout
    z = layout.concatenate({name: latents[name] for name in layout.names})
    role = torch.tensor([[roles[name] for name in layout.names]])
    times = multi_time_vector(torch.full((1, 1), 0.4), role)
    rows = torch.cat(
        [net(z, times, role), net(z, times.expand(len(z), -1), role.expand(len(z), -1))]
    )
    return layout.split(rows.detach())


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("role", [Role.GENERATED, Role.OBSERVED])
def test_old_conditionals_are_unchanged_where_a_new_modality_is_absent(
    kind: str, role: Role
) -> None:
    earlier, more = trained(kind), network(kind, MORE, seed=2)
    before = {name: x.clone() for name, x in more.state_dict().items()}
    take_over(more, earlier)
    generator = Generator().manual_seed(0)
    widths = {"a": 3, "b": 8, "new": 5}
    z = {name: torch.randn(6, width, generator=generator) for name, width in widths.items()}
    z["new"] = torch.zeros_like(z["new"])
    roles = {"a": int(Role.GENERATED), "b": int(role), "new": int(Role.ABSENT)}
    expected, actual = predict(earlier, z, roles), predict(more, z, roles)
    torch.testing.assert_close(actual["a"], expected["a"], rtol=1e-4, atol=1e-5)
    if role == Role.GENERATED:
        torch.testing.assert_close(actual["b"], expected["b"], rtol=1e-4, atol=1e-5)
    # The parameters of the new modality are its initial ones, and all of them can learn.
    named = [name for name in before if "new" in name and ".mlp." not in name]
    assert all(torch.equal(more.state_dict()[name], before[name]) for name in named)
    z["new"] = torch.randn(6, 5, generator=generator)
    layout = more.layout
    # Each modality is OBSERVED in some rows, and GENERATED in others.
    each = torch.eye(3, dtype=torch.long).repeat(2, 1)
    role_rows = torch.where(each > 0, Role.OBSERVED, Role.GENERATED)
    times = multi_time_vector(torch.full((6, 1), 0.4), role_rows)
    for _ in range(3):
        more.zero_grad()
        more(layout.concatenate(z), times, role_rows).square().sum().backward()
        for parameter in more.parameters():
            if parameter.grad is not None:
                parameter.data -= 1e-4 * parameter.grad
    silent = [name for name, x in more.named_parameters() if x.grad is None or not x.grad.any()]
    assert silent == []


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_network_over_the_same_modalities_takes_over_every_parameter(kind: str) -> None:
    earlier, again = trained(kind), network(kind, EARLIER, seed=2)
    take_over(again, earlier)
    states = earlier.state_dict(), again.state_dict()
    assert all(torch.equal(x, states[1][name]) for name, x in states[0].items())


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (3,)}, r"latent of 'b': \(4, 2\) -> nothing"),
        ({"a": (4,), "b": (4, 2)}, r"latent of 'a': \(3,\) -> \(4,\)"),
    ],
)
def test_a_modality_that_is_missing_or_of_another_shape_is_an_error(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        take_over(network("residual-mlp", shapes, 1), trained("residual-mlp"))


def test_a_network_of_another_width_is_an_error() -> None:
    wide = NETWORKS["residual-mlp"](LatentLayout(EARLIER), VPSchedule(), width=64, depth=2)
    assert isinstance(wide, ScoreNetwork)
    with pytest.raises(ValueError, match=r": \[.*\] -> \[.*\]"):
        take_over(wide, trained("residual-mlp"))
