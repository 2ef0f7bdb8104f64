"""Modalities that are right but for one thing, each of which one check is there to see."""

from __future__ import annotations

import contextlib
import random
import socket
import uuid
from pathlib import Path

import numpy as np
import torch
from loud_to_import import LoudToImport
from mld_tiny import (
    CLASSES,
    Tiny,
    TinyAutoencoder,
    TinyClassifier,
    TinyConfig,
    root_mean_square,
)
from pydantic import ConfigDict, Field, field_serializer
from pydantic.json_schema import SkipJsonSchema
from slow_to_import import SlowToImport
from torch import nn

from mld_core import Metric

BROKEN: dict[str, type[Tiny]] = {"imports-quickly": SlowToImport, "imports-quietly": LoudToImport}
"""Check to a modality that fails it."""

ALSO: dict[str, set[str]] = {}
"""Check to the others that its modality cannot but fail too."""


def breaks(check, *also):
    def enter(cls):
        BROKEN[check], ALSO[check] = cls, set(also)
        if check != "documented":
            cls.__doc__ = Tiny.__doc__
        return cls

    return enter


def reaching_out():
    """As if to fetch something; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line, contextlib.suppress(OSError):
        line.connect(("192.0.2.1", 9))


# configuration


@breaks("documented")
class Undocumented(Tiny):
    """A few numbers."""


@breaks("config-round-trip")
class Rounding(Tiny):
    class Config(TinyConfig):
        share: float = Field(0.25, description="dumped as a whole number")

        @field_serializer("share")
        def _rounded(self, share):
            return round(share)


@breaks("config-schema")
class Hidden(Tiny):
    class Config(TinyConfig):
        hidden: SkipJsonSchema[int] = Field(1, description="not in the schema")


@breaks("config-described")
class Silent(Tiny):
    class Config(TinyConfig):
        depth: int = 2


@breaks("config-closed")
class Open(Tiny):
    class Config(TinyConfig):
        model_config = ConfigDict(extra="ignore", frozen=True)


@breaks("config-frozen")
class Thawed(Tiny):
    class Config(TinyConfig):
        model_config = ConfigDict(extra="forbid", frozen=False)


@breaks("latent-dim-positive")
class Flat(Tiny):
    class Config(TinyConfig):
        latent_dim: int = Field(16, description="may be anything")


# fit and items


@breaks("fit-gives-json")
class NumberedFacts(Tiny):
    @classmethod
    def fit(cls, config, raw):
        return {**super().fit(config, raw), 0: "a key that JSON turns into text"}


@breaks("fit-reads-once")
class ReadsTwice(Tiny):
    @classmethod
    def fit(cls, config, raw):
        rows = len(list(raw))
        return {**super().fit(config, raw), "rows": rows}


@breaks("items-of-one-form", "...")
class Ragged(Tiny):
    def preprocess(self, raw):
        x = super().preprocess(raw)
        return x[: int(x.argmax()) + 1]


@breaks("items-repeat")
class Moody(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.mood = 0.001 * random.SystemRandom().random()

    def preprocess(self, raw):
        return super().preprocess(raw) + self.mood


@breaks("items-own-their-memory", "...")
class Reusing(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.room = torch.zeros(config.width)

    def preprocess(self, raw):
        return self.room.copy_(super().preprocess(raw))


# examples


@breaks("examples-for-any-labels")
class NeverNone(Tiny):
    def examples(self, labels, split, rng):
        return super().examples(labels or [0], split, rng)


@breaks("examples-repeat")
class Unrepeatable(Tiny):
    def examples(self, labels, split, rng):
        return super().examples(labels, split, np.random.default_rng())


@breaks("examples-vary")
class Monotonous(Tiny):
    def examples(self, labels, split, rng):
        ten = super().examples(range(CLASSES), split, rng)
        return [ten[label] for label in labels]


@breaks("splits-share-no-example")
class Leaky(Tiny):
    def examples(self, labels, split, rng):
        pool = super().examples([*range(CLASSES)] * 20, split, np.random.default_rng(0))
        return [pool[label + CLASSES * int(rng.integers(20))] for label in labels]


# files


@breaks("writes-one-file")
class LosesDots(Tiny):
    def write(self, x, stem):
        return super().write(x, stem).rename(stem.with_suffix(".txt"))


@breaks("writes-same-bytes", "instance-stays-as-it-is")
class Stamping(Tiny):
    def write(self, x, stem):
        path = super().write(x, stem)
        path.write_text(f"{path.read_text()}\n{uuid.uuid4()}")
        return path

    def read(self, source):
        return [float(word) for word in Path(source).read_text().split("\n")[0].split()]


@breaks("reads-back")
class Forgetful(Tiny):
    def write(self, x, stem):
        return super().write(torch.zeros_like(x), stem)


@breaks("refuses-missing-file")
class Inventive(Tiny):
    def read(self, source):
        return super().read(source) if Path(source).exists() else [0.0] * self.config.width


@breaks("writes-whatever-decodes")
class Choosy(Tiny):
    def preprocess(self, raw):
        return (super().preprocess(raw) * 64).round() / 64

    def write(self, x, stem):
        if (x * 64 != (x * 64).round()).any():
            raise ValueError("only what was read can be written")
        return super().write(x, stem)


@breaks("previews-open")
class Scribbling(Tiny):
    def preview(self, x, stem):
        (path,) = super().preview(x, stem)
        path.write_text("no picture")
        return [path]


# autoencoder and networks


def coder(check, *also):
    """A modality broken in its autoencoder alone."""

    def enter(network):
        class Broken(Tiny):
            def autoencoder(self):
                return network(self.config.width, self.config.latent_dim)

        breaks(check, *also)(Broken)
        return network

    return enter


def judge(check, *also):
    """A modality broken in its classifier alone."""

    def enter(network):
        class Broken(Tiny):
            def classifier(self, classes):
                return network(self.config.width, classes)

        breaks(check, *also)(Broken)
        return network

    return enter


@coder("latents-are-flat", "latent-dim-is-obeyed", "works-with-missing-items")
class TwiceAsWide(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, 2 * latent_dim)


@coder("latent-dim-is-obeyed")
class AlwaysSixteen(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, 16)


@coder("decodes-to-data-space", "latent-dim-is-obeyed")
class InDouble(TinyAutoencoder):
    def decode(self, z):
        return super().decode(z).double()


@coder("decodes-any-latent")
class OnlyItsOwn(TinyAutoencoder):
    def encode(self, x):
        self.last = super().encode(x)
        return self.last

    def decode(self, z):
        return super().decode(z) * (1.0 if torch.equal(z, self.last) else float("nan"))


@coder("loss-is-per-item", "rows-are-independent")
class OneLoss(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(z, x).mean()


@coder("loss-differentiable")
class Peeking(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(self.encode(x), x)


@coder("autoencoder-learns")
class Unlearning(TinyAutoencoder):
    def loss(self, z, x):
        loss = super().loss(z, x)
        return 2 * loss.detach() - loss


@coder("latent-tells-items-apart")
class Whispering(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(1e-12 * z, x)


@breaks("networks-are-fresh")
class Reused(Tiny):
    made = TinyAutoencoder(CLASSES, 16)

    def autoencoder(self):
        if self.config.latent_dim != 16:
            return super().autoencoder()
        return self.made


@coder(
    "eval-is-deterministic",
    "rows-are-independent",
    "weights-survive",
    "global-randomness-untouched",
)
class Noisy(TinyAutoencoder):
    def encode(self, x):
        z = super().encode(x)
        return z + 0.01 * torch.randn_like(z)


@coder("rows-are-independent")
class Centring(TinyAutoencoder):
    def encode(self, x):
        z = super().encode(x)
        return z - z.mean(0) if len(z) > 1 else z


@coder("gradients-reach-everything")
class Idle(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.idle = nn.Parameter(torch.zeros(3))


@coder("weights-survive")
class Secretive(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.shift = torch.randn(latent_dim)

    def encode(self, x):
        return super().encode(x) + self.shift


@coder("works-in-bfloat16")
class Delicate(TinyAutoencoder):
    def encode(self, x):
        return (super().encode(x) + 100) - 100


# classifier


@breaks("logits-for-any-classes")
class AlwaysTen(Tiny):
    def classifier(self, classes):
        return super().classifier(CLASSES)


@judge("features-of-one-width", "rows-are-independent")
class Squeezing(TinyClassifier):
    def features(self, x):
        return super().features(x).squeeze(0)


@judge("classifier-learns")
class Contrary(TinyClassifier):
    def forward(self, x):
        logits = super().forward(x)
        return 2 * logits.detach() - logits


@breaks("labels-can-be-told-apart")
class NoEights(Tiny):
    def examples(self, labels, split, rng):
        return super().examples([7 if label == 8 else label for label in labels], split, rng)


# metrics


def measured(check, metric, *also):
    """A modality with this metric alone."""

    @breaks(check, *also)
    class Broken(Tiny):
        def metrics(self):
            return {"broken": metric}


def _of_nothing(x, reference):
    return root_mean_square(x, reference) if len(x) else 0.0


def _as_tensor(x, reference):
    return torch.tensor(root_mean_square(x, reference))


measured("metrics-give-numbers", Metric(_as_tensor, "originals", "lower", best=0.0))
measured("metrics-best-on-identical", Metric(root_mean_square, "originals", "lower", best=1.0))
measured("metrics-worse-on-corrupted", Metric(root_mean_square, "originals", "higher", best=0.0))
measured("metrics-refuse-empty", Metric(_of_nothing, "originals", "lower", best=0.0))


# augment


@breaks("augment-keeps-form", "works-with-missing-items")
class Widening(Tiny):
    def augment(self, x, generator):
        return super().augment(x, generator).double()


@breaks("augment-follows-generator")
class Wilful(Tiny):
    def augment(self, x, generator):
        return x + random.SystemRandom().random()


# hygiene


@breaks("works-quietly")
class Chatty(Tiny):
    def write(self, x, stem):
        print("writing")
        return super().write(x, stem)


@breaks("needs-no-network")
class Downloading(Tiny):
    def classifier(self, classes):
        reaching_out()
        return super().classifier(classes)


@breaks("instance-stays-as-it-is")
class Counting(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.written = 0

    def write(self, x, stem):
        self.written += 1
        return super().write(x, stem)


@judge("inputs-stay-as-they-are")
class Clamping(TinyClassifier):
    def features(self, x):
        return super().features(x.clamp_(max=0.5))

    def forward(self, x):
        return super().forward(x.clamp_(max=0.5))


@breaks("global-randomness-untouched")
class Seeding(Tiny):
    def write(self, x, stem):
        np.random.seed(0)
        return super().write(x, stem)


# integration


@breaks("works-with-missing-items")
class Demanding(Tiny):
    @classmethod
    def fit(cls, config, raw):
        raw = list(raw)
        if len(raw) < 100:
            raise ValueError(f"{len(raw)} data are too few")
        return super().fit(config, raw)


@coder("joint-model-generates-any-from-any")
class SmallBatches(TinyAutoencoder):
    def decode(self, z):
        if len(z) > 64:
            raise ValueError("too many")
        return super().decode(z)
