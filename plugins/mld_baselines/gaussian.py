"""The method `gaussian`: one normal distribution over the latents of all modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mld_baselines.gaussian_fit import fit_gaussian
from mld_core import Autoencoder, JointModel, Method, MethodConfig, hookimpl

Latents = Mapping[str, Float[Tensor, "row _"]]


class GaussianConfig(MethodConfig):
    """Settings of the joint Gaussian."""

    shrinkage: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the identity in the covariance; by default estimated from the data",
    )


class GaussianModel(JointModel):
    """Mean and covariance of the joint latent, in float64.

    Args:
        widths: of the latents, by modality.
        shrinkage: as in `GaussianConfig`.
    """

    def __init__(self, widths: Mapping[str, int], shrinkage: float | None) -> None:
        super().__init__({})
        self.widths = dict(widths)
        self.shrinkage = shrinkage
        joint = sum(widths.values())
        mean, covariance = torch.zeros(joint).double(), torch.eye(joint).double()
        self.mean = nn.Parameter(mean, requires_grad=False)
        self.covariance = nn.Parameter(covariance, requires_grad=False)

    def fit(self, items: Latents, present: Bool[Tensor, "row modality"]) -> None:
        """By maximum likelihood, with missing cells by expectation maximisation."""
        z = torch.cat([items[name] for name in self.widths], 1).double()
        mean, covariance = fit_gaussian(z, self._expand(present), self.shrinkage)
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)

    def loss(self, items: Latents, present: Bool[Tensor, "row modality"]) -> Float[Tensor, ""]:
        """−log p of what is present, in nats."""
        return -self.log_density(items, present).mean()

    def log_density(
        self, items: Latents, present: Bool[Tensor, "row modality"]
    ) -> Float[Tensor, " row"]:
        """log p of the latents that are present in each row; 0 for a row without any."""
        z = torch.cat([items[name] for name in self.widths], 1).double()
        density = z.new_zeros(len(z))
        for pattern in present.unique(dim=0):
            rows, seen = (present == pattern).all(1), self._expand(pattern)
            if seen.any():
                normal = MultivariateNormal(self.mean[seen], self.covariance[seen][:, seen])
                density[rows] = normal.log_prob(z[rows][:, seen])
        return density

    def conditional(
        self, given: Latents, wanted: Sequence[str]
    ) -> tuple[Float[Tensor, "row _"], Float[Tensor, "_ _"]]:
        """Mean, a row for each given one, and covariance of the wanted latents together.

        One row if nothing is given.
        """
        names = [name for name in self.widths if name in given]
        seen, drawn = self._coordinates(names), self._coordinates(wanted)
        mean, covariance = self.mean[drawn][None], self.covariance[drawn][:, drawn]
        if not names:
            return mean, covariance
        z = torch.cat([given[name] for name in names], 1).double()
        cross = self.covariance[seen][:, drawn]
        root = torch.linalg.cholesky(self.covariance[seen][:, seen])
        weights = torch.cholesky_solve(cross, root)
        return mean + (z - self.mean[seen]) @ weights, covariance - cross.T @ weights

    def sample(self, given: Latents, wanted: Sequence[str], n: int) -> dict[str, Tensor]:
        """Exact draws from the conditional distribution."""
        mean, covariance = self.conditional(given, wanted)
        noise = torch.randn(n, mean.shape[1], dtype=torch.float64, device=mean.device)
        z = mean + noise @ torch.linalg.cholesky(covariance).T
        widths = [self.widths[name] for name in wanted]
        return dict(zip(wanted, z.float().split(widths, 1), strict=True))

    def _expand(self, present: Bool[Tensor, "*row modality"]) -> Bool[Tensor, "*row joint"]:
        """Whether each coordinate is present."""
        widths = torch.tensor([*self.widths.values()], device=present.device)
        return present.repeat_interleave(widths, -1)

    def _coordinates(self, names: Sequence[str]) -> Tensor:
        """Indices of the coordinates of some modalities, in the order of the names."""
        indices = torch.arange(len(self.mean), device=self.mean.device).split(
            [*self.widths.values()]
        )
        by_name = dict(zip(self.widths, indices, strict=True))
        return torch.cat([by_name[name] for name in names]) if names else indices[0][:0]


class Gaussian(Method):
    """A joint normal distribution over mld's latents, fitted in closed form: the simplest baseline.

    Conditional samples and densities are exact. Over a table of numbers with `scale: quantile` it
    is a Gaussian copula.
    """

    kind = "gaussian"
    Config = GaussianConfig
    config: GaussianConfig
    on_latents = True

    def model(self, autoencoders: Mapping[str, Autoencoder]) -> JointModel:
        """A standard normal distribution, to be fitted."""
        widths = {name: modality.latent_dim for name, modality in self.modalities.items()}
        return GaussianModel(widths, self.config.shrinkage)


@hookimpl
def register_methods() -> list[type[Method]]:
    """The methods of this module."""
    return [Gaussian]
