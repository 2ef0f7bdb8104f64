"""Two small modalities for tests: six numbers in a file, or in the manifest's cell."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field, PositiveInt
from torch import nn

from mld_core import Autoencoder, Classifier, Metric, Modality, ModalityConfig, hookimpl

WIDTH = 6


class PointsConfig(ModalityConfig):
    latent_dim: PositiveInt = Field(description="width of the latent of one item")


class LinearAutoencoder(Autoencoder):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(WIDTH, latent_dim)
        self.out_proj = nn.Linear(latent_dim, WIDTH)
        self.dropout = nn.Dropout(0.01)

    def encode(self, x):
        return self.dropout(self.in_proj(x)).float()

    def decode(self, z):
        return self.out_proj(z).float()

    def loss(self, z, x):
        return (self.out_proj(z) - x).square().sum(1) / 2


class SmallClassifier(Classifier):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(WIDTH, 32)
        self.head = nn.Linear(32, classes)

    def features(self, x):
        return torch.relu(self.hidden(x))

    def forward(self, x):
        return self.head(self.features(x))


def root_mean_square(x, reference):
    if not len(x):
        raise ValueError("no items to measure")
    return float((x - reference).square().mean().sqrt())


class Points(Modality):
    """Six numbers in a text file; raw is a list of floats."""

    kind = "points"
    Config = PointsConfig

    def read(self, source):
        text = source if self.inline else Path(source).read_text()
        return [float(word) for word in text.split()]

    def preprocess(self, raw):
        if len(raw) != WIDTH:
            raise ValueError(f"{len(raw)} numbers, expected {WIDTH}")
        return torch.tensor(raw, dtype=torch.float32)

    def autoencoder(self):
        return LinearAutoencoder(self.config.latent_dim)

    def classifier(self, classes):
        return SmallClassifier(classes)

    def metrics(self):
        return {"rms": Metric(root_mean_square, "truth", "lower", best=0.0)}

    def cell(self, x):
        return " ".join(f"{value:.4f}" for value in x.tolist())

    def write(self, x, stem):
        path = stem.with_name(stem.name + ".txt")
        path.write_text(Points.cell(self, x))
        return path

    def examples(self, labels, split, rng):
        centres = [
            [4.0 * ((label >> bit) & 1) for bit in range(4)] + [label, 0.0] for label in labels
        ]
        return [[c + rng.normal(0, 0.2) for c in centre] for centre in centres]


class Marks(Points):
    """Six numbers in the manifest's cell; raw is a list of floats."""

    kind = "marks"
    inline = True


@hookimpl
def register_modalities():
    return [Points]
