from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mld_core.diffusion.guidance import Guidance, GuidedNoise
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import multi_time_vector
from mld_core.diffusion.networks import Transformer
from mld_core.diffusion.networks.latent_tokens import LinearPath, PatchTokens
from mld_core.diffusion.networks.transformer import Summary
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule

SHAPES = {"picture": (2, 4, 6), "name": (5, 3), "icon": (2, 4, 6), "size": (1,), "text": (70,)}
LAYOUT = LatentLayout(SHAPES)
G, O, A = int(Role.GENERATED), int(Role.OBSERVED), int(Role.ABSENT)  # noqa: E741
PATTERNS = torch.tensor(
    [[G, O, A, G, G], [A, A, G, A, A], [G, G, G, G, G], [O, A, A, A, G], [G, A, A, A, A]]
)


def build(layout: LatentLayout = LAYOUT, reads_roles: bool = True) -> Transformer:
    torch.manual_seed(0)
    network = Transformer(
        layout, VPSchedule(), width=32, depth=2, heads=4, patch=2, reads_roles=reads_roles
    )
    for parameter in network.parameters():  # modulations and output layers start at zero
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def generated_noise(network: Transformer, z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
    eps = network(z, times, roles)
    return torch.where(network.layout.expand(roles == Role.GENERATED), eps, 0.0)


@pytest.mark.parametrize("shared", [True, False])
def test_what_stands_in_absent_slots_changes_nothing(shared: bool) -> None:
    """Bit for bit, even NaN."""
    network, z = build(), torch.randn(6, LAYOUT.joint_dim)
    for pattern in PATTERNS:
        roles = pattern[None] if shared else pattern.expand(6, -1)
        times = multi_time_vector(torch.rand(len(roles), 1), roles)
        filled = torch.where(LAYOUT.expand(roles == A), torch.nan, z)
        expected = generated_noise(network, z, times, roles)
        assert torch.equal(generated_noise(network, filled, times, roles), expected)


def test_an_absent_modality_is_as_if_it_did_not_exist() -> None:
    """No token attends to one; a model of the other modalities alone predicts the same."""
    network, roles = build(), torch.tensor([[G, A, O, A, A]]).expand(6, -1)
    z = torch.randn(6, LAYOUT.joint_dim)
    times = multi_time_vector(torch.rand(6, 1), roles)
    smaller = build(LatentLayout({name: SHAPES[name] for name in ("picture", "icon")}))
    weights = network.state_dict()
    smaller.load_state_dict({name: weights[name] for name in smaller.state_dict()})
    latents = LAYOUT.split(z)
    both = smaller.layout.concatenate({name: latents[name] for name in ("picture", "icon")})
    alone = smaller(both, times[:, [0, 2]], roles[:, [0, 2]])[:, :48]
    torch.testing.assert_close(LAYOUT.split(network(z, times, roles))["picture"], alone)


def test_leaving_out_and_masking_agree() -> None:
    network = build()
    z = torch.randn(len(PATTERNS), 7, LAYOUT.joint_dim)
    roles = PATTERNS[:, None]
    times = multi_time_vector(torch.linspace(0.1, 0.9, len(roles))[:, None, None], roles)
    left_out = generated_noise(network, z, times, roles)
    masked = generated_noise(
        network, z, times.expand(-1, 7, -1), roles.expand(-1, 7, -1).contiguous()
    )
    torch.testing.assert_close(left_out, masked, atol=1e-5, rtol=1e-5)


def test_permuting_modalities_permutes_the_answer() -> None:
    network, z = build(), torch.randn(6, LAYOUT.joint_dim)
    roles = PATTERNS[torch.arange(6) % 5]
    times = multi_time_vector(torch.rand(6, 1), roles)
    order = [3, 0, 4, 2, 1]
    names = [LAYOUT.names[index] for index in order]
    permuted = build(LatentLayout({name: SHAPES[name] for name in names}))
    permuted.load_state_dict(network.state_dict())
    joint = permuted.layout.concatenate(LAYOUT.split(z))
    answer = permuted.layout.split(
        generated_noise(permuted, joint, times[:, order], roles[:, order])
    )
    expected = generated_noise(network, z, times, roles)
    torch.testing.assert_close(LAYOUT.concatenate(answer), expected, atol=1e-5, rtol=1e-5)


def test_terms_of_guidance_are_those_of_separate_calls() -> None:
    network, z = build(), torch.randn(6, LAYOUT.joint_dim)
    roles, fill = torch.full((1, 5), G), torch.zeros(6, LAYOUT.joint_dim)
    times = torch.full((1, 5), 0.4)
    guided = GuidedNoise(network, LAYOUT, Guidance(0.0, 1.5), fill)(z, times, roles)
    expected = 2.5 * network(z, times.expand(6, -1), roles.expand(6, -1))
    for index in range(5):
        alone = torch.full((6, 5), A)
        alone[:, index] = G
        term = generated_noise(network, z, multi_time_vector(times[:1, :1], alone), alone)
        expected = expected - 1.5 * term
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)


def test_noise_in_absent_slots_is_seen_with_independent_times() -> None:
    network, z = build(reads_roles=False), torch.randn(6, LAYOUT.joint_dim)
    roles, times = torch.full((6, 5), A), torch.rand(6, 5)
    other = torch.where(LAYOUT.modality_index == 1, z + 1, z)
    assert not torch.allclose(network(z, times, roles), network(other, times, roles), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "patch", "num_patches", "first"),
    [
        ((2, 3, 4), 2, 4, [0, 1, 4, 5, 12, 13, 16, 17]),
        ((2, 3, 4), 1, 12, [0, 12]),
        ((5, 2), 2, 3, [0, 2, 1, 3]),
        ((4, 3), 4, 1, [*range(0, 12, 3), *range(1, 12, 3), *range(2, 12, 3)]),
    ],
)
def test_patches_hold_every_number_once(
    shape: tuple[int, ...], patch: int, num_patches: int, first: list[int]
) -> None:
    patches = PatchTokens(shape, patch, width=16, embedding=8)
    assert patches.count == num_patches
    assert patches.patches[0].tolist() == first
    size = torch.Size(shape).numel()
    filled = torch.cat([torch.arange(size), torch.tensor([-1])])[patches.patches]
    assert sorted(filled[filled >= 0].tolist()) == [*range(size)]
    assert torch.equal(filled.flatten()[patches.places], torch.arange(size))


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_observed_reaches_every_token_at_once(shared: bool) -> None:
    """Though no token has attended to another; what is GENERATED does not."""
    network, z = build(), torch.randn(6, LAYOUT.joint_dim)
    for name, parameter in network.named_parameters():
        if "attention.out_proj" in name:
            nn.init.zeros_(parameter)
    roles = torch.tensor([[G, O, A, G, O]]).expand(1 if shared else 6, -1)
    times = torch.where(roles == O, 0.0, 0.5)
    expected = generated_noise(network, z, times, roles)
    is_generated = LAYOUT.expand(roles == G)[0]
    for index, name in enumerate(LAYOUT.names):
        changed = z + (LAYOUT.modality_index == index)
        differs = generated_noise(network, changed, times, roles) != expected
        elsewhere = is_generated & (LAYOUT.modality_index != index)
        assert bool((differs[:, elsewhere] == (name in ("name", "text"))).all())


def test_a_step_changes_the_map_of_a_latent_by_the_root_of_its_width() -> None:
    """Adam's first step changes each weight by the learning rate."""

    def change(dim: int) -> Tensor:
        summary, z = Summary(dim, width=4), torch.ones(1, dim)
        optimiser = torch.optim.Adam(summary.parameters(), lr=1e-3)
        before = summary(z)
        before.sum().backward()
        optimiser.step()
        return (summary(z) - before).detach().abs()

    torch.testing.assert_close(change(4), torch.full((1, 4), 4e-3), rtol=1e-3, atol=0)
    torch.testing.assert_close(change(400), torch.full((1, 4), 4e-2), rtol=1e-3, atol=0)


def test_the_linear_path_can_be_the_velocity_of_a_gaussian() -> None:
    """z ~ N(0, C): v = α σ (1 − C) (σ² + α² C)⁻¹ z, from the score of N(0, α² C + σ²)."""
    torch.manual_seed(0)
    covariance = torch.randn(6, 6).cov()
    variances, directions = torch.linalg.eigh(covariance)
    schedule, t = VPSchedule(), torch.tensor(0.3)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    path = LinearPath(dim=6, embedding=8)
    z, segment = torch.randn(4, 3, 6), torch.randn(4, 8)
    assert not bool(path(z, segment).any())
    with torch.no_grad():
        path.in_proj.weight.copy_(directions.T)
        path.out_proj.weight.copy_(directions)
        gains = alpha * sigma * (1 - variances) / (sigma**2 + alpha**2 * variances)
        path.gains.bias.copy_(gains)
    noisy_covariance = alpha**2 * covariance + sigma**2 * torch.eye(6)
    eps = sigma * torch.linalg.solve(noisy_covariance, z.flatten(0, 1).T).T.view_as(z)
    expected = (eps - sigma * z) / alpha
    torch.testing.assert_close(path(z, segment), expected, atol=1e-5, rtol=1e-4)


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ValueError, match=r"width must be a multiple of heads \(5\), not 32"):
        Transformer(LAYOUT, VPSchedule(), width=32, depth=1, heads=5)
