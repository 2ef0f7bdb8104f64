"""A minimal modality and a minimal dataset that pass every check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mld_core import (
    Autoencoder,
    Classifier,
    Dataset,
    DatasetConfig,
    Metric,
    Modality,
    ModalityConfig,
    Split,
    Summary,
    hookimpl,
)

CLASSES = 10


class TinyConfig(ModalityConfig):
    """A Config with one more field."""

    latent_dim: int = Field(ge=1, description="width of the latent")
    width: int = Field(CLASSES, ge=CLASSES, description="numbers in an item")


class TinyAutoencoder(Autoencoder):
    def __init__(self, width, latent_dim):
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, latent_dim), nn.Linear(latent_dim, width)

    def encode(self, x):
        return self.in_proj(x)

    def decode(self, z):
        return self.out_proj(z)

    def loss(self, z, x):
        return (self.out_proj(z) - x).square().sum(1) / 2


class TinyClassifier(Classifier):
    def __init__(self, width, classes):
        super().__init__()
        self.hidden, self.head = nn.Linear(width, 32), nn.Linear(32, classes)

    def features(self, x):
        return torch.relu(self.hidden(x))

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x)))


def root_mean_square(x, reference):
    if not len(x) or x.shape != reference.shape:
        raise ValueError("items and originals are compared row by row")
    return float((x - reference).square().mean().sqrt())


def spread(x, reference):
    if not len(x):
        raise ValueError("no items to measure")
    return float(x.var())


def error_of_draws(draws, reference):
    if not len(draws) or not len(reference):
        raise ValueError("there are no rows to measure")
    return float((draws - reference[:, None]).abs().mean())


class Tiny(Modality):
    """A few numbers in a text file; raw is a list of floats."""

    kind = "tiny"
    Config = TinyConfig

    @classmethod
    def fit(cls, config, raw):
        return {"scale": max((abs(number) for numbers in raw for number in numbers), default=1.0)}

    def read(self, source):
        return [float(word) for word in Path(source).read_text().split()]

    def preprocess(self, raw):
        return torch.tensor(raw[: self.config.width]) / self.facts["scale"]

    def augment(self, x, generator):
        return x + 0.01 * torch.randn(x.shape, generator=generator, device=x.device)

    def autoencoder(self):
        return TinyAutoencoder(self.config.width, self.config.latent_dim)

    def classifier(self, classes):
        return TinyClassifier(self.config.width, classes)

    def metrics(self):
        return {
            "rms": Metric(root_mean_square, "originals", "lower", best=0.0),
            "spread": Metric(spread, "none", "higher"),
            "error_of_draws": Metric(
                error_of_draws, "draws", "lower", best=0.0, bounds=(0.0, None)
            ),
        }

    def profile(self, raw):
        return {"numbers": len(raw)}

    def summarise(self, draws):
        return Summary(draws.mean(0), {"largest": float(draws.max())})

    def plot(self, draws, truth):
        return f'<svg xmlns="http://www.w3.org/2000/svg"><text>{len(draws)}</text></svg>'

    def write(self, x, stem):
        path = stem.with_name(f"{stem.name}.txt")
        path.write_text(" ".join(str(value) for value in (x * self.facts["scale"]).tolist()))
        return path

    def preview(self, x, stem):
        path = stem.with_name(f"{stem.name}.svg")
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        return [path]

    def examples(self, labels, split, rng):
        width = self.config.width
        return [
            (3.0 * np.eye(width)[label] + rng.normal(0, 0.3, width)).tolist() for label in labels
        ]


class TinyWords(Tiny):
    """A few numbers in the manifest's cell; raw is a list of floats."""

    kind = "tiny-words"
    inline = True

    def read(self, source):
        return [float(word) for word in source.split()]

    def cell(self, x):
        return " ".join(str(value) for value in (x * self.facts["scale"]).tolist())


class RowsConfig(DatasetConfig):
    """The number of rows."""

    rows: int = Field(20, ge=1, description="rows of each split")


class Rows(Dataset):
    """Rows with one column, in which some items are missing."""

    kind = "rows"
    Config = RowsConfig

    @property
    def columns(self):
        return {"numbers": "tiny"}

    @property
    def classes(self):
        return tuple("0123456789")

    def labels(self, name):
        return [row % CLASSES for row in range(self.config.rows)]

    def ids(self, name):
        return [f"{name}-{row}" for row in range(self.config.rows)]

    def items(self, name):
        labels = self.labels(name)
        rng = np.random.default_rng([self.seed, *name.encode()])
        raw = self.modalities["numbers"].examples(labels, name, rng)
        return [None if row % 5 == 4 else datum for row, datum in enumerate(raw)]

    def split(self, name):
        return Split(self.ids(name), {"numbers": self.items(name)}, self.labels(name))


@hookimpl
def register_modalities():
    return [Tiny]
