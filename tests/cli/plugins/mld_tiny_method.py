"""A minimal method that passes every check: linear maps between latents."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn

from mld_core import JointModel, Method, MethodConfig, hookimpl


class TinyMethodConfig(MethodConfig):
    """A Config with one field."""

    noise: float = Field(0.1, ge=0, description="standard deviation of samples")


class TinyModel(JointModel):
    """Predicts the latent of each modality linearly from the mean of the others' predictions."""

    def __init__(self, autoencoders, dims, noise):
        super().__init__(autoencoders)
        self.dims, self.noise = dims, noise
        self.maps = nn.ModuleDict(
            {f"{a}>{b}": nn.Linear(dims[a], dims[b]) for a in dims for b in dims if a != b}
        )
        self.register_buffer("centre", torch.zeros(()))

    def encode(self, name, x):
        return self.autoencoders[name].encode(x)

    def fit(self, items, present):
        self.centre.fill_(float(present.float().mean()))

    def loss(self, items, present):
        seen = dict(zip(self.dims, present.unbind(1), strict=True))
        z = {name: self.encode(name, x) for name, x in items.items()}
        total = self.centre * 0
        for name, x in items.items():
            total = total + (self.autoencoders[name].loss(z[name], x) * seen[name]).mean()
        for pair, linear in self.maps.items():
            a, b = pair.split(">")
            error = (linear(z[a]).float() - z[b].detach()).square().sum(1)
            total = total + (error * (seen[a] & seen[b])).mean()
        return total

    def sample(self, given, wanted, n):
        z = {name: self.encode(name, x) for name, x in given.items()}
        if not z:
            first = next(iter(self.dims))
            z[first] = torch.randn(n, self.dims[first], device=self.centre.device)
        return {name: self.draw(z, name, n) for name in wanted}

    def draw(self, z, name, n):
        maps = [z[a] if a == name else self.maps[f"{a}>{name}"](z[a]) for a in z]
        mean = sum(maps) / len(maps)
        return mean + self.noise * torch.randn_like(mean)


class TinyMethod(Method):
    """Linear maps between latents."""

    kind = "tiny-method"
    Config = TinyMethodConfig
    model_class = TinyModel

    def model(self, autoencoders):
        dims = {name: modality.latent_dim for name, modality in self.modalities.items()}
        return self.model_class(autoencoders, dims, self.config.noise)


@hookimpl
def register_methods():
    return [TinyMethod]
