"""Methods with one defect each, which one check detects."""

from __future__ import annotations

import random

import numpy as np
import torch
from broken_configs import broken_configs
from broken_modalities import connect
from loud_to_import import LoudMethod
from mld_tiny_method import TinyMethod, TinyMethodConfig, TinyModel
from slow_to_import import SlowMethod
from torch import nn

BROKEN: dict[str, type[TinyMethod]] = {
    "imports-quickly": SlowMethod,
    "imports-quietly": LoudMethod,
}
"""Check to a method that fails it."""

ALSO_FAILS: dict[str, set[str]] = {}
"""Check to the other checks that its method also fails."""


def breaks(check, *also):
    """Register a method that fails a check, given as itself or as its model."""

    def decorate(cls):
        if issubclass(cls, TinyModel):
            cls = type(cls.__name__, (TinyMethod,), {"model_class": cls})
        BROKEN[check], ALSO_FAILS[check] = cls, set(also)
        if check != "documented":
            cls.__doc__ = TinyMethod.__doc__
        return cls

    return decorate


@breaks("documented")
class Undocumented(TinyMethod):
    pass


for check, config in broken_configs(TinyMethodConfig).items():
    breaks(check)(type(config.__name__, (TinyMethod,), {"Config": config}))


@breaks("models-are-fresh")
class Reusing(TinyMethod):
    model_of_all = None

    def model(self, autoencoders):
        self.model_of_all = self.model_of_all or super().model(autoencoders)
        return self.model_of_all


@breaks("loss-is-a-number")
class VarianceOfTheBatch(TinyModel):
    def loss(self, items, present):
        return super().loss(items, present) + 0 * items["scalar"].var()


@breaks("loss-ignores-missing-cells")
class ReadingMissingCells(TinyModel):
    def loss(self, items, present):
        return super().loss(items, torch.ones_like(present))


@breaks("learns-from-incomplete-rows")
class DividingByCounts(TinyModel):
    def loss(self, items, present):
        counts = present.float().mean(0)
        return super().loss(items, present) * (counts / counts).mean()


@breaks("all-parameters-are-trained")
class UnusedLayer(TinyModel):
    def __init__(self, *args):
        super().__init__(*args)
        self.unused = nn.Linear(2, 2)


@breaks("loss-works-in-bfloat16", "models-work-on-any-device")
class MixedPrecision(TinyModel):
    def loss(self, items, present):
        loss = super().loss(items, present)
        first = next(iter(self.maps.values()))
        product = (first.weight @ first.weight.T).flatten()
        return loss + 0 * torch.zeros(1).index_add(0, torch.tensor([0]), product[:1]).sum()


@breaks("learning-lowers-the-loss", "samples-follow-given", "all-parameters-are-trained")
class Untrained(TinyModel):
    def loss(self, items, present):
        loss = super().loss(items, present)
        return loss.detach() + 0 * loss


@breaks("learning-is-repeatable")
class RandomFit(TinyModel):
    def fit(self, items, present):
        self.centre.fill_(random.SystemRandom().random())


@breaks("samples-any-from-any", "samples-follow-seed", "rows-do-not-mix", "model-round-trip")
class OneAtATime(TinyModel):
    def sample(self, given, wanted, n):
        return super().sample(given, wanted[:1], n)


@breaks("samples-follow-seed", "rows-do-not-mix", "model-round-trip", "models-work-on-any-device")
class NumpyNoise(TinyModel):
    def draw(self, z, name, n):
        noise = np.random.default_rng().normal(size=(n, self.dims[name]))
        return super().draw(z, name, n) + torch.tensor(noise).float()


@breaks("models-work-on-any-device")
class NoiseOfTheProcessor(TinyModel):
    def draw(self, z, name, n):
        return super().draw(z, name, n) + self.noise * torch.randn(n, self.dims[name])


@breaks("rows-do-not-mix")
class CentringBatch(TinyModel):
    def draw(self, z, name, n):
        return super().draw({other: each - each.mean(0) for other, each in z.items()}, name, n)


@breaks("samples-follow-given")
class IgnoringGiven(TinyModel):
    def sample(self, given, wanted, n):
        return super().sample({}, wanted, n)


@breaks("model-round-trip")
class ForgettingFit(TinyModel):
    offset = 0.0

    def fit(self, items, present):
        self.offset = 1.0

    def draw(self, z, name, n):
        return super().draw(z, name, n) + self.offset


@breaks("rows-are-not-modified")
class ScalingItems(TinyModel):
    def loss(self, items, present):
        items["scalar"].mul_(0.9)
        return super().loss(items, present)


@breaks("works-quietly")
class Printing(TinyMethod):
    def model(self, autoencoders):
        print("building")
        return super().model(autoencoders)


@breaks("needs-no-network")
class Downloading(TinyMethod):
    def model(self, autoencoders):
        connect()
        return super().model(autoencoders)
