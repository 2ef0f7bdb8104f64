from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import Role
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser


@dataclass
class GaussianLatents:
    """Gaussian latents with known covariance: every multi-time score is exact.

    In float64 on standardised latents of any scale; a row's roles may be anything, or shared.
    """

    layout: LatentLayout
    mean: Tensor
    covariance: Tensor
    schedule: VPSchedule = field(default_factory=VPSchedule)

    def conditional(self, roles: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Generated coordinates, their mean per row given the observed ones, their covariance."""
        role = self.layout.expand(roles[None])[0]
        g, o = (torch.nonzero(role == r).squeeze(1) for r in (Role.GENERATED, Role.OBSERVED))
        c = self.covariance
        mean = self.mean[g].expand(len(z), -1)
        cov = c[g][:, g]
        if len(o):
            gain = c[g][:, o] @ torch.linalg.inv(c[o][:, o])
            mean = mean + (z[:, o] - self.mean[o]) @ gain.T
            cov = cov - gain @ c[o][:, g]
        return g, mean, cov

    def predict_noise(self, z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        shape = z.shape
        z = z.flatten(0, -2)
        times, roles = (each.expand(*shape[:-1], -1).flatten(0, -2) for each in (times, roles))
        # The exact score does not read these times, but a network does: they must be correct.
        assert bool((times[roles == Role.OBSERVED] == 0).all())
        assert bool((times[roles == Role.ABSENT] == 1).all())
        eps = torch.full_like(z, torch.nan)  # undefined where nothing is generated
        is_shared = bool((roles == roles[:1]).all())
        for pattern in roles[:1] if is_shared else roles.unique(dim=0):
            rows = torch.nonzero((roles == pattern).all(1)).squeeze(1)
            if not bool((pattern == Role.GENERATED).any()):
                continue
            g, mean, cov = self.conditional(pattern, z[rows])
            t = self.layout.expand(times[rows])[:, g]
            assert bool((t == t[0, 0]).all())
            alpha, sigma = self.schedule.alpha(t[0, 0]), self.schedule.sigma(t[0, 0])
            noisy = alpha**2 * cov + sigma**2 * torch.eye(len(g)).to(cov)
            residual = z[rows][:, g] - alpha * mean
            eps[rows[:, None], g] = sigma * torch.linalg.solve(noisy, residual.T).T
        return eps.view(shape)

    def rows(self, count: int) -> dict[str, Tensor]:
        """Latents whose sample mean and covariance are exactly those of the distribution."""
        generator = torch.Generator().manual_seed(3)
        z = torch.randn(count, self.layout.joint_dim, generator=generator, dtype=torch.float64)
        z = z - z.mean(0)
        z = torch.linalg.solve_triangular(
            torch.linalg.cholesky(torch.cov(z.T, correction=0)), z.T, upper=False
        ).T
        return self.layout.split(z @ torch.linalg.cholesky(self.covariance).T + self.mean)

    def log_density(
        self, z: dict[str, Tensor], of: tuple[str, ...], given: tuple[str, ...] = ()
    ) -> Tensor:
        """The exact log p(of | given) of each row."""
        roles = [
            Role.GENERATED if name in of else Role.OBSERVED if name in given else Role.ABSENT
            for name in self.layout.names
        ]
        joint = self.layout.concatenate(z)
        g, mean, cov = self.conditional(torch.tensor(roles), joint)
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(g)).double(), cov)
        return normal.log_prob(joint[:, g] - mean)

    def exact_model(self) -> ScoreModel:
        """A model that computes in float64."""
        return replace(self.model(), predict_noise=self.predict_noise)

    def model(self) -> ScoreModel:
        """A model that returns float32, as a network does."""
        width = self.layout.joint_dim
        identity = Standardiser(torch.zeros(width), torch.ones(width), torch.zeros(width).bool())

        def predict_float32(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
            return self.predict_noise(z.double(), times.double(), roles).float()

        return ScoreModel(
            predict_float32, self.layout, self.schedule, identity, "three-role", torch.device("cpu")
        )


@pytest.fixture
def gaussian() -> GaussianLatents:
    """Three correlated modalities of widths 2, 1 and 3, of unequal scales."""
    layout = LatentLayout.of_vectors({"a": 2, "b": 1, "c": 3})
    generator = torch.Generator().manual_seed(7)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / 6 + 0.05 * torch.eye(6)
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64)
    return GaussianLatents(layout, mean, covariance)


@pytest.fixture
def gaussian_latents() -> type[GaussianLatents]:
    """The class, for tests that choose layout, mean and covariance."""
    return GaussianLatents
