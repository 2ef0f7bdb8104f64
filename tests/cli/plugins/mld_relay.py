"""A small method for tests, which predicts latents from each other."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from mld_core import JointModel, Method, MethodConfig, hookimpl


class RelayConfig(MethodConfig):
    noise: float = Field(0.1, ge=0, description="standard deviation of samples")
    fail: str = Field("", description="the step that fails")


class RelayModel(JointModel):
    def __init__(self, autoencoders, config, dims):
        super().__init__(autoencoders)
        self.config = config
        self.dims = dims
        self.maps = nn.ModuleDict(
            {
                f"{a}>{b}": nn.Sequential(nn.Linear(dims[a], 32), nn.SiLU(), nn.Linear(32, dims[b]))
                for a in dims
                for b in dims
                if a != b
            }
        )

    def loss(self, items, present):
        if self.config.fail == "loss":
            raise KeyError("nothing")
        z = {name: self.autoencoders[name].encode(x) for name, x in items.items()}
        total = 0.0
        for column, (name, x) in enumerate(items.items()):
            nll = self.autoencoders[name].loss(z[name], x)
            total = total + (nll * present[:, column]).mean()
        for column, a in enumerate(items):
            for other, b in enumerate(items):
                if a != b:
                    both = present[:, column] & present[:, other]
                    error = (self.maps[f"{a}>{b}"](z[a]) - z[b].detach()).square().sum(1)
                    total = total + (error * both).mean()
        return total

    def sample(self, given, wanted, n):
        if self.config.fail == "sample":
            return {}
        z = {name: self.autoencoders[name].encode(x) for name, x in given.items()}
        if not z:
            first = next(iter(self.dims))
            device = next(self.parameters()).device
            z = {first: 3 * torch.randn(n, self.dims[first], device=device)}
        source = next(iter(z))
        samples = {}
        for name in wanted:
            clean = z[name] if name in z else self.maps[f"{source}>{name}"](z[source])
            samples[name] = clean + self.config.noise * torch.randn_like(clean)
        return samples


class Relay(Method):
    """Maps between latents."""

    kind = "relay"
    Config = RelayConfig

    def __init__(self, config, modalities):
        super().__init__(config, modalities)
        if config.fail == "modalities":
            raise ValueError("these modalities are not supported")

    @property
    def needs_complete(self):
        return self.config.fail == "incomplete"

    def model(self, autoencoders):
        dims = {name: modality.config.latent_dim for name, modality in self.modalities.items()}
        return RelayModel(autoencoders, self.config, dims)


@hookimpl
def register_methods():
    return [Relay]
