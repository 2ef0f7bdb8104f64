"""The method `newkind`: predicts the latents of some modalities from those of others.

The module works as it is; replace each part with your own. `mld check newkind` tests whether it
fulfils mld's plugin contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from mld_core import Autoencoder, JointModel, Method, MethodConfig, hookimpl

MLD_API = 1  # version of mld's plugin contract


class NewKindConfig(MethodConfig):
    """Settings in a spec beside `method` and those of the training."""

    width: int = Field(default=128, ge=1, le=8192, description="units in a hidden layer")


class NewKindModel(JointModel):
    """A network from what is seen of a row to mean and log-scale of every latent.

    Random draws come from torch's global generator only, which mld seeds.
    """

    def __init__(self, widths: Mapping[str, int], config: NewKindConfig) -> None:
        super().__init__({})  # a model of items passes on its autoencoders
        self.widths = dict(widths)
        joint = sum(widths.values())
        self.network = nn.Sequential(
            nn.Linear(joint + len(widths), config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, 2 * joint),
        )

    def loss(self, items: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """−log p of what is present and hidden from the network; a missing cell holds zeros."""
        z = torch.cat([items[name] for name in self.widths], 1)
        shown = torch.rand(present.shape, device=z.device) < torch.rand_like(z[:, :1])
        seen = present & shown
        mean, log_scale = self.predict(z, seen)
        nll = ((z - mean) / log_scale.exp()).square() / 2 + log_scale
        hidden = self.expand(present & ~seen)
        return (nll * hidden).sum() / len(z)

    def sample(
        self, given: Mapping[str, Tensor], wanted: Sequence[str], n: int
    ) -> dict[str, Tensor]:
        """The wanted latents one after the other, each given those before it."""
        device = next(self.parameters()).device
        zeros = {name: torch.zeros(n, width, device=device) for name, width in self.widths.items()}
        latents = zeros | dict(given)
        seen = torch.tensor([name in given for name in zeros], device=device).repeat(n, 1)
        for name in wanted:
            mean, log_scale = self.predict(torch.cat([*latents.values()], 1), seen)
            drawn = mean + log_scale.exp() * torch.randn_like(mean)
            index = list(self.widths).index(name)
            latents[name] = drawn.split([*self.widths.values()], 1)[index]
            seen[:, index] = True
        return {name: latents[name] for name in wanted}

    def predict(self, z: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of every latent, from those that are seen."""
        inputs = torch.cat([z * self.expand(seen), seen.float()], 1)
        mean, log_scale = self.network(inputs).float().chunk(2, 1)
        return mean, log_scale.clamp(-5, 2)

    def expand(self, values: Tensor) -> Tensor:
        """One value per modality, repeated over its latent."""
        widths = torch.tensor([*self.widths.values()], device=values.device)
        return values.repeat_interleave(widths, 1)


class NewKind(Method):
    """Regression of latents on each other, with normal errors."""

    kind = "newkind"  # the name in specs, and of the entry point in pyproject.toml
    Config = NewKindConfig
    config: NewKindConfig
    on_latents = True

    def model(self, autoencoders: Mapping[str, Autoencoder]) -> NewKindModel:
        """A new, untrained model."""
        widths = {name: modality.latent_dim for name, modality in self.modalities.items()}
        return NewKindModel(widths, self.config)


@hookimpl
def register_methods() -> list[type[Method]]:
    """Return the method to mld, which finds this module by its entry point."""
    return [NewKind]
