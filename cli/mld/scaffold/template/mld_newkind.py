"""The modality `newkind`: signals of a fixed number of samples, such as spectra.

This module works as it stands, and every part of it is meant to be replaced by yours. From raw
datum to file and back:

    raw -- preprocess --> item x -- encode --> latent z -- decode --> item x -- write --> file

`mld check newkind` says at any time what still holds and what does not.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mld_core import Autoencoder, Classifier, Metric, Modality, ModalityConfig, hookimpl

MLD_API = 1  # the version of mld's plugin contract that this module is written for
NOISE = 0.2  # standard deviation of an item about its reconstruction, which the loss assumes


class NewKindConfig(ModalityConfig):
    """What a spec may say beside `kind`: one field each, with a default, a range and a meaning."""

    latent_dim: int = Field(8, ge=1, description="numbers in the latent of one signal")
    length: int = Field(32, ge=10, le=65536, description="samples of one signal")


class NewKindAutoencoder(Autoencoder):
    """Two networks, from item to latent and back; any architecture without batch statistics."""

    def __init__(self, config):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(config.length, 128), nn.SiLU(), nn.Linear(128, config.latent_dim), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, 128), nn.SiLU(), nn.Linear(128, config.length)
        )

    def encode(self, x):
        """The flat latent of each item: float32, and the same every time outside training.

        In training a little noise is added, so that near latents decode to near items.
        """
        z = self.encoder(x).float()
        return z + 0.05 * torch.randn_like(z) if self.training else z

    def decode(self, z):
        """The item of each latent, in the shape, dtype and range that `preprocess` gives."""
        return self.decoder(z).float()

    def loss(self, z, x):
        """−log p(x | z) of each item, up to a constant: here x is Gaussian about `decode(z)`."""
        return (self.decode(z) - x).square().sum(1) / (2 * NOISE**2)


class NewKindClassifier(Classifier):
    """Tells what an item shows; only for judging samples, so it may be small."""

    def __init__(self, config, classes):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(config.length, 64), nn.SiLU())
        self.outer = nn.Linear(64, classes)

    def features(self, x):
        """The last hidden layer, always equally wide: Frechet distances are taken here."""
        return self.inner(x).float()

    def forward(self, x):
        """The logits of each item over the dataset's classes."""
        return self.outer(self.features(x)).float()


def root_mean_square(items, originals):
    """A metric is a function of two batches of items; it refuses an empty one."""
    if not (len(items) and len(originals)):
        raise ValueError("no items to measure")
    return float((items - originals).square().mean().sqrt())


class NewKind(Modality):
    """Signals of a fixed number of samples; raw is a one-dimensional NumPy array."""

    kind = "newkind"  # what specs call it, and the name of the entry point in pyproject.toml
    Config = NewKindConfig

    @classmethod
    def fit(cls, config, raw):
        """What must be learnt from the training split, as JSON; `self.facts` from then on."""
        signals = np.stack(list(raw))
        return {"mean": float(signals.mean()), "scale": float(signals.std()) or 1.0}

    def read(self, source):
        """The raw datum in a file that a manifest names; ValueError says what is wrong with it."""
        return np.loadtxt(source, ndmin=1)

    def preprocess(self, raw):
        """One raw datum as a tensor of fixed shape; ValueError names the setting that would fit."""
        if raw.shape != (self.config.length,):
            raise ValueError(f"shape {raw.shape}: with length: {raw.size} it would fit")
        if not np.isfinite(raw).all():
            raise ValueError("has samples that are not finite numbers")
        scaled = (raw - self.facts["mean"]) / self.facts["scale"]
        return torch.tensor(scaled, dtype=torch.float32)

    def augment(self, x, generator):
        """Variations of a batch that keep its labels; drop this method if there are none."""
        return x + 0.02 * torch.randn(x.shape, generator=generator)

    def autoencoder(self):
        """A fresh, untrained autoencoder."""
        return NewKindAutoencoder(self.config)

    def classifier(self, classes):
        """A fresh, untrained classifier."""
        return NewKindClassifier(self.config, classes)

    def metrics(self):
        """What makes a good reconstruction or sample of this kind; may be left out."""
        return {"rms": Metric(root_mean_square, against="originals", better="lower", best=0.0)}

    def write(self, x, stem):
        """One item as one file that `read` can read: `stem` with a suffix, twice the same bytes."""
        path = stem.with_name(f"{stem.name}.txt")
        np.savetxt(path, self._signal(x), fmt="%.6g")
        return path

    def preview(self, x, stem):
        """Pictures (SVG or PNG) for the report; drop this method if `write` makes a picture."""
        heights = 70 - 20 * x
        points = " ".join(f"{5 * i},{height:.1f}" for i, height in enumerate(heights.tolist()))
        box = f'viewBox="-5 -30 {5 * len(x) + 5} 140" width="160" height="120"'
        line = f'<polyline points="{points}" fill="none" stroke="black" stroke-width="2"/>'
        path = stem.with_name(f"{stem.name}.svg")
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{line}</svg>')
        return [path]

    def examples(self, labels, split, rng):
        """A raw datum per label 0..9 that shows the label: here the place of a peak."""
        place = np.arange(self.config.length) / self.config.length
        centres = (np.asarray(labels) + rng.uniform(0.3, 0.7, len(labels))) / 10
        heights, widths = rng.uniform(2, 3, len(labels)), rng.uniform(0.02, 0.04, len(labels))
        peaks = [
            height * np.exp(-(((place - centre) / width) ** 2) / 2)
            for centre, height, width in zip(centres, heights, widths, strict=True)
        ]
        return [peak + rng.normal(0, 0.1, self.config.length) for peak in peaks]

    def _signal(self, x):
        return x.double().numpy() * self.facts["scale"] + self.facts["mean"]


@hookimpl
def register_modalities():
    """Where mld finds the class; the entry point in pyproject.toml leads here."""
    return [NewKind]
