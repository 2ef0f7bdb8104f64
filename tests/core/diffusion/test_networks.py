from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.networks import NETWORKS, UNetMLP
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule

LAYOUT = LatentLayout.of_vectors({"a": 2, "b": 1, "c": 3})
KINDS = ["residual-mlp", "unet-mlp", "transformer"]
G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741


def new(kind: str, layout: LatentLayout = LAYOUT, **settings: Any) -> nn.Module:
    return NETWORKS[kind](layout, VPSchedule(), width=32, depth=2, **settings)


def build(kind: str, reads_roles: bool = True) -> nn.Module:
    torch.manual_seed(0)
    network = new(kind, reads_roles=reads_roles)
    for parameter in network.parameters():  # the output layers start at zero
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.fixture(params=KINDS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return build(request.param)


def predict(network: nn.Module, z: torch.Tensor, t: float, roles: list[int]) -> torch.Tensor:
    pattern = torch.tensor([roles]).expand(len(z), -1)
    times = multi_time_vector(torch.full((len(z), 1), t), pattern)
    return network(z, times, pattern)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_network_predicts_noise_of_a_normal_latent(kind: str) -> None:
    fresh = new(kind)
    z = torch.randn(4, 6)
    for t in (1e-4, 0.5, 1.0):
        expected = VPSchedule().sigma(torch.tensor(t)) * z  # E[eps | z_t] for z ~ N(0, I)
        torch.testing.assert_close(predict(fresh, z, t, [G, G, G]), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_network_predicts_noise_of_a_shifted_latent(kind: str) -> None:
    """E[eps | z_t] = sigma z_t / (sigma² + alpha² s²) for z ~ N(0, s²)."""
    fresh = new(kind, LatentLayout(LAYOUT.shapes, {"c": 3.0}))
    z, variance = torch.randn(4, 6), torch.tensor([1.0, 1.0, 1.0, *[math.exp(-3)] * 3])
    for t in (torch.tensor(1e-4), torch.tensor(0.5), torch.tensor(1.0)):
        alpha, sigma = VPSchedule().alpha(t), VPSchedule().sigma(t)
        expected = sigma * z / (sigma**2 + alpha**2 * variance)
        torch.testing.assert_close(predict(fresh, z, t.item(), [G, G, G]), expected)


def test_output_does_not_depend_on_the_batch(network: nn.Module) -> None:
    z = torch.randn(64, 6)
    batch = predict(network, z, 0.3, [G, O, G])
    torch.testing.assert_close(predict(network, z[5:6], 0.3, [G, O, G]), batch[5:6])


@pytest.mark.parametrize("reads_roles", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_times_and_roles(kind: str, reads_roles: bool) -> None:
    """The same as with times and roles for every row, for terms of mixed roles and for one."""
    network = build(kind, reads_roles)
    roles = torch.tensor([[G, O, G], [G, A, A], [A, A, G], [O, A, G], [G, G, G]])
    times = multi_time_vector(torch.linspace(0.1, 0.9, len(roles))[:, None], roles)
    absent = LAYOUT.expand(roles == A)[:, None]
    z = torch.randn(len(roles), 7, 6)
    if reads_roles:  # else absent latents are noise, which differs between rows
        z = torch.where(absent, 0.0, z)
    is_generated = LAYOUT.expand(roles == G) if reads_roles else torch.ones(len(roles), 6).bool()
    shared = network(z, times[:, None], roles[:, None])
    for term in range(len(roles)):
        alone = network(z[term], times[term].expand(7, -1), roles[term].expand(7, -1))
        columns = is_generated[term]  # the others are undefined
        torch.testing.assert_close(shared[term][:, columns], alone[:, columns])
        one_term = network(z[term], times[term : term + 1], roles[term : term + 1])
        torch.testing.assert_close(one_term[:, columns], alone[:, columns])


def test_output_depends_on_time_and_role(network: nn.Module) -> None:
    z = torch.randn(8, 6)
    base = predict(network, z, 0.3, [G, G, G])
    assert not torch.allclose(base, predict(network, z, 0.31, [G, G, G]), atol=1e-4)
    assert not torch.allclose(base, predict(network, z, 0.3, [G, O, G]), atol=1e-4)
    # Unlike with raw times, observed differs from barely diffused.
    barely = predict(network, z, 1e-5, [G, G, G])
    assert not torch.allclose(barely, predict(network, z, 1e-5, [G, O, G]), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_modalities_may_have_names_of_attributes_of_modules(kind: str) -> None:
    names = ["type", "items", "values", "train", "half"]
    network = new(kind, LatentLayout.of_vectors(dict.fromkeys(names, 1)))
    assert predict(network, torch.zeros(2, 5), 0.5, [G, O, A, G, G]).shape == (2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_roles_are_not_read_with_independent_times(kind: str) -> None:
    network = build(kind, reads_roles=False)
    z, times = torch.randn(4, 6), torch.rand(4, 3)
    outputs = [network(z, times, torch.full((4, 3), role)) for role in Role]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_every_parameter_gets_a_gradient(network: nn.Module) -> None:
    for roles in [G, O, A], [A, G, O], [O, A, G]:
        predict(network, torch.randn(8, 6), 0.3, roles).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_output_under_bf16_is_finite_float32(network: nn.Module) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for t in (1e-5, 1.0):
            out = predict(network, torch.randn(4, 6), t, [G, O, A])
            assert out.dtype == torch.float32
            assert bool(out.isfinite().all())


def test_unet_width_must_be_a_multiple_of_its_groups() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 8, not 12"):
        UNetMLP(LAYOUT, VPSchedule(), width=12, depth=1)


def test_unet_has_the_size_of_the_released_network() -> None:
    # MNIST-SVHN as released: 16 + 64 latents, width 256: 2.35 M parameters with raw times.
    layout = LatentLayout.of_vectors({"mnist": 16, "svhn": 64})
    network = UNetMLP(layout, VPSchedule(), width=256, depth=2)
    embedding = sum(p.numel() for p in network.embed.parameters())
    raw_times = (2 * 256 + 256) + (256 * 256 + 256)
    count = sum(p.numel() for p in network.parameters()) - embedding + raw_times
    assert count == pytest.approx(2.35e6, rel=0.01)
