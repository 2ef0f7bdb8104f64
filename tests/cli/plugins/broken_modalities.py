"""Modalities with one defect each, which one check detects."""

from __future__ import annotations

import contextlib
import random
import socket
import uuid
from pathlib import Path

import numpy as np
import torch
from broken_configs import broken_configs
from loud_to_import import LoudToImport
from mld_tiny import (
    CLASSES,
    Tiny,
    TinyAutoencoder,
    TinyClassifier,
    TinyConfig,
    error_of_draws,
    root_mean_square,
    spread,
)
from pydantic import Field
from slow_to_import import SlowToImport
from torch import nn

from mld_core import Metric, Summary

BROKEN: dict[str, type[Tiny]] = {"imports-quickly": SlowToImport, "imports-quietly": LoudToImport}
"""Check to a modality that fails it."""

ALSO_FAILS: dict[str, set[str]] = {}
"""Check to the other checks that its modality also fails."""


def breaks(check, *also):
    def decorate(cls):
        BROKEN[check], ALSO_FAILS[check] = cls, set(also)
        if check != "documented":
            cls.__doc__ = Tiny.__doc__
        return cls

    return decorate


def connect():
    """Open a connection; nothing is sent."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection,
        contextlib.suppress(OSError),
    ):
        connection.connect(("192.0.2.1", 9))


# configuration


@breaks("documented")
class Undocumented(Tiny):
    """A few numbers."""


for check, config in broken_configs(TinyConfig).items():
    breaks(check)(type(config.__name__, (Tiny,), {"Config": config}))


@breaks("latent-dim-positive")
class AnyLatentDim(Tiny):
    class Config(TinyConfig):
        latent_dim: int = Field(16, description="may be anything")


# fit and items


@breaks("fit-returns-json")
class IntegerKeys(Tiny):
    @classmethod
    def fit(cls, config, raw):
        return {**super().fit(config, raw), 0: "a key that JSON turns into text"}


@breaks("fit-reads-once")
class ReadsTwice(Tiny):
    @classmethod
    def fit(cls, config, raw):
        rows = len(list(raw))
        return {**super().fit(config, raw), "rows": rows}


@breaks("items-have-one-shape", "...")
class Ragged(Tiny):
    def preprocess(self, raw):
        x = super().preprocess(raw)
        return x[: int(x.argmax()) + 1]


@breaks("items-are-deterministic")
class RandomOffset(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.offset = 0.001 * random.SystemRandom().random()

    def preprocess(self, raw):
        return super().preprocess(raw) + self.offset


@breaks("items-share-no-memory", "...")
class SharedBuffer(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.buffer = torch.zeros(config.width)

    def preprocess(self, raw):
        return self.buffer.copy_(super().preprocess(raw))


# examples


@breaks("examples-for-any-labels")
class NeverNone(Tiny):
    def examples(self, labels, split, rng):
        return super().examples(labels or [0], split, rng)


@breaks("examples-follow-rng")
class Unrepeatable(Tiny):
    def examples(self, labels, split, rng):
        return super().examples(labels, split, np.random.default_rng())


@breaks("examples-vary")
class OnePerLabel(Tiny):
    def examples(self, labels, split, rng):
        per_label = super().examples(range(CLASSES), split, rng)
        return [per_label[label] for label in labels]


@breaks("splits-share-no-example")
class SharedPool(Tiny):
    def examples(self, labels, split, rng):
        pool = super().examples([*range(CLASSES)] * 20, split, np.random.default_rng(0))
        return [pool[label + CLASSES * int(rng.integers(20))] for label in labels]


# files


@breaks("writes-one-file")
class LosesDots(Tiny):
    def write(self, x, stem):
        return super().write(x, stem).rename(stem.with_suffix(".txt"))


@breaks("writes-same-bytes", "instance-is-not-modified")
class UniqueFiles(Tiny):
    def write(self, x, stem):
        path = super().write(x, stem)
        path.write_text(f"{path.read_text()}\n{uuid.uuid4()}")
        return path

    def read(self, source):
        return [float(word) for word in Path(source).read_text().split("\n")[0].split()]


@breaks("reads-back")
class WritesZeros(Tiny):
    def write(self, x, stem):
        return super().write(torch.zeros_like(x), stem)


@breaks("missing-file-raises")
class ReadsMissingFiles(Tiny):
    def read(self, source):
        return super().read(source) if Path(source).exists() else [0.0] * self.config.width


@breaks("reads-file-once")
class ReadsLater(Tiny):
    def read(self, source):
        super().read(source)
        return Path(source)

    def preprocess(self, raw):
        return super().preprocess(super().read(raw) if isinstance(raw, Path) else raw)


@breaks("writes-any-decoded-item")
class WritesOnlyRounded(Tiny):
    def preprocess(self, raw):
        return (super().preprocess(raw) * 64).round() / 64

    def write(self, x, stem):
        if (x * 64 != (x * 64).round()).any():
            raise ValueError("not a multiple of 1/64")
        return super().write(x, stem)


@breaks("descriptions-are-plain")
class ProfileOfArrays(Tiny):
    def profile(self, raw):
        return {"numbers": np.array(raw)}


@breaks("previews-are-valid")
class InvalidPreview(Tiny):
    def preview(self, x, stem):
        (path,) = super().preview(x, stem)
        path.write_text("not an SVG")
        return [path]


@breaks("media-type-fits-files")
class PictureInWords(Tiny):
    media_type = "picture"


@breaks("choices-are-cells")
class ChoosesFiles(Tiny):
    choices = ("first", "second")


# autoencoder and networks


def breaks_autoencoder(check, *also):
    """A modality whose autoencoder alone is broken."""

    def decorate(network):
        class Broken(Tiny):
            def autoencoder(self):
                return network(self.config.width, self.config.latent_dim)

        breaks(check, *also)(Broken)
        return network

    return decorate


def breaks_classifier(check, *also):
    """A modality whose classifier alone is broken."""

    def decorate(network):
        class Broken(Tiny):
            def classifier(self, classes):
                return network(self.config.width, classes)

        breaks(check, *also)(Broken)
        return network

    return decorate


@breaks_autoencoder("latents-are-flat", "latent-dim-is-respected", "works-with-missing-items")
class TwiceAsWide(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, 2 * latent_dim)


@breaks("latent-shape-is-valid", "works-with-missing-items")
class FourDimensions(Tiny):
    @property
    def latent_shape(self):
        return (self.config.latent_dim // 8, 2, 2, 2)


@breaks_autoencoder("latent-dim-is-respected")
class AlwaysSixteen(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, 16)


@breaks_autoencoder("decodes-to-data-space", "latent-dim-is-respected")
class DecodesDouble(TinyAutoencoder):
    def decode(self, z):
        return super().decode(z).double()


@breaks_autoencoder("decodes-any-latent")
class DecodesOnlyEncoded(TinyAutoencoder):
    def encode(self, x):
        self.last = super().encode(x)
        return self.last

    def decode(self, z):
        return super().decode(z) * (1.0 if torch.equal(z, self.last) else float("nan"))


@breaks_autoencoder("loss-is-per-item", "rows-are-independent")
class MeanLoss(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(z, x).mean()


@breaks_autoencoder("loss-differentiable")
class IgnoresLatent(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(self.encode(x), x)


@breaks_autoencoder("autoencoder-learns")
class ReversedAutoencoderGradient(TinyAutoencoder):
    def loss(self, z, x):
        loss = super().loss(z, x)
        return 2 * loss.detach() - loss


@breaks_autoencoder("reference-decides-weights")
class UnrelatedReference(TinyAutoencoder):
    """Frozen at random weights, whatever its reference says."""

    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.requires_grad_(False)

    @property
    def reference(self):
        return {"name": "somebody/weights", "revision": "1"}


@breaks_autoencoder("latent-identifies-item")
class UninformativeLatent(TinyAutoencoder):
    def loss(self, z, x):
        return super().loss(1e-12 * z, x)


@breaks("networks-are-fresh")
class ReusedNetwork(Tiny):
    network = TinyAutoencoder(CLASSES, 16)

    def autoencoder(self):
        if self.config.latent_dim != 16:
            return super().autoencoder()
        return self.network


@breaks_autoencoder(
    "eval-is-deterministic",
    "rows-are-independent",
    "weights-round-trip",
    "global-rng-untouched",
)
class Noisy(TinyAutoencoder):
    def encode(self, x):
        z = super().encode(x)
        return z + 0.01 * torch.randn_like(z)


@breaks_autoencoder("rows-are-independent")
class BatchCentred(TinyAutoencoder):
    def encode(self, x):
        z = super().encode(x)
        return z - z.mean(0) if len(z) > 1 else z


@breaks_autoencoder("gradients-reach-all-parameters")
class UnusedParameter(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.unused = nn.Parameter(torch.zeros(3))


@breaks_autoencoder("weights-round-trip", "works-on-any-device")
class UnsavedState(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.shift = torch.randn(latent_dim)

    def encode(self, x):
        return super().encode(x) + self.shift


@breaks_autoencoder("works-on-any-device")
class ConstantsOnTheProcessor(TinyAutoencoder):
    def __init__(self, width, latent_dim):
        super().__init__(width, latent_dim)
        self.scale = torch.full((latent_dim,), 0.5)

    def encode(self, x):
        return super().encode(x) * self.scale


@breaks_autoencoder("works-in-bfloat16")
class LosesPrecision(TinyAutoencoder):
    def encode(self, x):
        return (super().encode(x) + 100) - 100


# classifier


@breaks("logits-for-any-classes")
class AlwaysTen(Tiny):
    def classifier(self, classes):
        return super().classifier(CLASSES)


@breaks_classifier("features-have-fixed-width", "rows-are-independent")
class SqueezedFeatures(TinyClassifier):
    def features(self, x):
        return super().features(x).squeeze(0)


@breaks_classifier("classifier-learns")
class ReversedClassifierGradient(TinyClassifier):
    def forward(self, x):
        logits = super().forward(x)
        return 2 * logits.detach() - logits


@breaks("only-autoencoder-needs-its-settings")
class ClassifierAsWideAsLatent(Tiny):
    class Config(TinyConfig):
        autoencoder_settings = frozenset({"latent_dim"})

    def classifier(self, classes):
        classifier = super().classifier(classes)
        classifier.hidden = nn.Linear(self.config.width, 2 * self.config.latent_dim)
        classifier.head = nn.Linear(2 * self.config.latent_dim, classes)
        return classifier


@breaks("labels-are-distinguishable")
class MissingLabel(Tiny):
    def examples(self, labels, split, rng):
        return super().examples([7 if label == 8 else label for label in labels], split, rng)


# metrics


BROKEN_METRICS: list[tuple[str, type[Tiny]]] = []
"""All checks of metrics with a modality that fails each; a check has several."""


def breaks_metric(check, metric, *also):
    """A modality whose only metric is this one."""

    @breaks(check, *also)
    class Broken(Tiny):
        def metrics(self):
            return {"broken": metric}

    BROKEN_METRICS.append((check, Broken))


def _zero_if_empty(x, reference):
    return root_mean_square(x, reference) if len(x) else 0.0


def _as_tensor(x, reference):
    return torch.tensor(root_mean_square(x, reference))


def _by_numpy(x, reference):
    return root_mean_square(x, reference) + 0 * float(x.numpy().sum())


def _error_of_draws_or_zero(draws, reference):
    return error_of_draws(draws, reference) if len(draws) else 0.0


def _error_of_draws_or_one(draws, reference):
    return error_of_draws(draws, reference) if len(reference) else 1.0


breaks_metric("metrics-return-floats", Metric(_as_tensor, "originals", "lower", best=0.0))
breaks_metric(
    "metrics-return-floats", Metric(root_mean_square, "originals", "lower", 0.0, "", (0.0, 1e-6))
)
breaks_metric("metrics-return-floats", Metric(spread, "none", "nearer"))
breaks_metric("works-on-any-device", Metric(_by_numpy, "truth", "lower", best=0.0))
breaks_metric("metrics-best-on-identical", Metric(error_of_draws, "draws", "lower", best=1.0))
breaks_metric("metrics-worse-on-corrupted", Metric(error_of_draws, "draws", "higher", best=0.0))
breaks_metric("metrics-worse-on-corrupted", Metric(error_of_draws, "draws", "nearer", best=9.0))
breaks_metric("metrics-reject-empty", Metric(_error_of_draws_or_zero, "draws", "lower", best=0.0))
breaks_metric("metrics-reject-empty", Metric(_error_of_draws_or_one, "draws", "lower", best=0.0))
breaks_metric("metrics-best-on-identical", Metric(root_mean_square, "originals", "lower", best=1.0))
breaks_metric("metrics-best-on-identical", Metric(root_mean_square, "truth", "lower", best=1.0))
breaks_metric(
    "metrics-worse-on-corrupted", Metric(root_mean_square, "originals", "higher", best=0.0)
)
breaks_metric("metrics-worse-on-corrupted", Metric(root_mean_square, "truth", "higher", best=0.0))
breaks_metric("metrics-reject-empty", Metric(_zero_if_empty, "originals", "lower", best=0.0))


# summarise


@breaks("summary-fits-its-draws")
class SummarisesFirstDraw(Tiny):
    def summarise(self, draws):
        return Summary(draws[0], {})


@breaks("plots-are-valid")
class InvalidPlot(Tiny):
    def plot(self, draws, truth):
        return "not an SVG"


# pack


@breaks("packing-keeps-items", "works-with-missing-items")
class PacksToHalf(Tiny):
    def pack(self, x):
        return x.half()

    def unpack(self, packed):
        return packed.float()


# augment


@breaks("augment-keeps-shape", "works-with-missing-items")
class AugmentsToDouble(Tiny):
    def augment(self, x, generator):
        return super().augment(x, generator).double()


@breaks("augment-follows-generator")
class IgnoresGenerator(Tiny):
    def augment(self, x, generator):
        return x + random.SystemRandom().random()


# side effects


@breaks("works-quietly")
class Printing(Tiny):
    def write(self, x, stem):
        print("writing")
        return super().write(x, stem)


@breaks("needs-no-network")
class Downloading(Tiny):
    def classifier(self, classes):
        connect()
        return super().classifier(classes)


@breaks("instance-is-not-modified")
class CountsWrites(Tiny):
    def __init__(self, config, facts=None):
        super().__init__(config, facts)
        self.written = 0

    def write(self, x, stem):
        self.written += 1
        return super().write(x, stem)


@breaks_classifier("inputs-are-not-modified")
class ModifiesInput(TinyClassifier):
    def features(self, x):
        return super().features(x.clamp_(max=0.5))

    def forward(self, x):
        return super().forward(x.clamp_(max=0.5))


@breaks("global-rng-untouched")
class SeedsNumpy(Tiny):
    def write(self, x, stem):
        np.random.seed(0)
        return super().write(x, stem)


# integration


@breaks("works-with-missing-items")
class NeedsManyItems(Tiny):
    @classmethod
    def fit(cls, config, raw):
        raw = list(raw)
        if len(raw) < 100:
            raise ValueError(f"too few data: {len(raw)}")
        return super().fit(config, raw)


@breaks_autoencoder("joint-model-generates-any-from-any")
class SmallBatches(TinyAutoencoder):
    def decode(self, z):
        if len(z) > 64:
            raise ValueError("too many")
        return super().decode(z)
