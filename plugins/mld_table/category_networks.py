"""The exact code of categories, and their classifier."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier

Classes = Int64[Tensor, "batch 1"]
Latents = Float[Tensor, "batch latent"]

OWN_LOG_ODDS = 7.0
"""Log odds of a class, given its point, against all others; larger for points of no simplex."""
FEATURE_DIM = 64
"""Width of the classifier's features."""


def code_points(classes: int, latent_dim: int) -> Float[Tensor, "classes latent"]:
    """A distinct point for each class, every coordinate with mean 0 and mean square 1.

    The points are columns of the discrete cosine transform, whose frequencies are spread evenly.
    With classes − 1 coordinates, the most that `latent_dim` may be, they are a regular simplex: all
    classes are equally far apart. The lowest frequency, always used, already separates all classes.
    A single class is the point 0.
    """
    if classes == 1:
        return torch.zeros(1, latent_dim)
    frequencies = torch.linspace(1, classes - 1, latent_dim, dtype=torch.float64).round()
    places = (torch.arange(classes, dtype=torch.float64) + 0.5) / classes
    return (math.sqrt(2) * torch.cos(math.pi * places[:, None] * frequencies)).float()


class CategoryAutoencoder(Autoencoder):
    """An exact code without trainable parameters: a point for each class, read by the nearest.

    Args:
        decoded: only the first so many classes are ever decoded.
    """

    points: Tensor

    def __init__(self, classes: int, latent_dim: int, decoded: int) -> None:
        super().__init__()
        self.decoded = decoded
        self.register_buffer("points", code_points(classes, latent_dim))
        nearest = float(torch.pdist(self.points).square().min()) if classes > 1 else 1.0
        self.inverse_variance = 2 * (OWN_LOG_ODDS + math.log(classes)) / nearest

    def encode(self, x: Classes) -> Latents:
        """The point of each class."""
        return self.points[x[:, 0]]

    def decode(self, z: Latents) -> Classes:
        """The class of the nearest point."""
        return self._distances(z)[:, : self.decoded].argmin(1, keepdim=True)

    def loss(self, z: Latents, x: Classes) -> Float[Tensor, " batch"]:
        """−log p(x | z) in nats, for equally frequent points with Gaussian noise."""
        logits = self._distances(z).square() * (-self.inverse_variance / 2)
        return functional.cross_entropy(logits, x[:, 0], reduction="none")

    def _distances(self, z: Latents) -> Float[Tensor, "batch classes"]:
        """Distance of each latent from each point; not by inner products, which round it."""
        return torch.cdist(z.float(), self.points, compute_mode="donot_use_mm_for_euclid_dist")


class CategoryClassifier(Classifier):
    """An embedding of each category, and a linear layer."""

    def __init__(self, categories: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(categories, FEATURE_DIM)
        self.logits = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Classes) -> Float[Tensor, "batch feature"]:
        """The 64 numbers of each category."""
        embedded: Tensor = self.embedding(x[:, 0])
        return embedded

    def forward(self, x: Classes) -> Float[Tensor, "batch classes"]:
        """The logits of each row."""
        logits: Tensor = self.logits(self.features(x))
        return logits.float()
