"""Three small modalities on which methods are checked; an example of each expresses its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from mld_core import Autoencoder, Classifier, Modality, ModalityConfig, SplitName

WIDTH = 6
"""Numbers in an item of `Numbers`."""

LENGTH, SYMBOLS = 3, 3
"""Symbols in an item of `Word`, and how many there are."""


class NumbersAutoencoder(Autoencoder):
    """Linear, with Gaussian errors."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(WIDTH, latent_dim), nn.Linear(latent_dim, WIDTH)

    def encode(self, x: Tensor) -> Tensor:
        """A linear map of the numbers."""
        z: Tensor = self.in_proj(x)
        return z.float()

    def decode(self, z: Tensor) -> Tensor:
        """A linear map back."""
        x: Tensor = self.out_proj(z)
        return x.float()

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        """Half the square error."""
        return (self.decode(z) - x).square().sum(1) / 2


class WordAutoencoder(Autoencoder):
    """Linear in the one-hot code of the symbols, with a softmax for each."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(LENGTH * SYMBOLS, latent_dim)
        self.out_proj = nn.Linear(latent_dim, LENGTH * SYMBOLS)

    def encode(self, x: Tensor) -> Tensor:
        """A linear map of the one-hot code."""
        z: Tensor = self.in_proj(one_hot(x, SYMBOLS).flatten(1).float())
        return z.float()

    def decode(self, z: Tensor) -> Tensor:
        """The likeliest symbols."""
        return self._logits(z).argmax(2)

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        """The cross-entropy of the symbols."""
        return cross_entropy(self._logits(z).mT, x, reduction="none").sum(1)

    def _logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.out_proj(z).float().unflatten(1, (LENGTH, SYMBOLS))
        return logits


class ExactCode(Autoencoder):
    """The number is its own latent; there are no parameters."""

    def encode(self, x: Tensor) -> Tensor:
        """The number."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """The number."""
        return z.float()

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        """Half the square error."""
        errors: Tensor = (z - x).square().sum(1) / 2
        return errors


class ToyModality(Modality):
    """What the toys have in common; they are neither read nor written nor classified."""

    Config = ModalityConfig

    def read(self, source: Path | str) -> Any:
        """Not needed by a method."""
        raise NotImplementedError

    def write(self, x: Tensor, stem: Path) -> Path:
        """Not needed by a method."""
        raise NotImplementedError

    def classifier(self, classes: int) -> Classifier:
        """Not needed by a method."""
        raise NotImplementedError

    def preprocess(self, raw: Any) -> Tensor:
        """The numbers as a tensor."""
        return torch.tensor(raw)


class Numbers(ToyModality):
    """Real numbers with a linear autoencoder; raw is a list of floats."""

    kind = "numbers"

    def autoencoder(self) -> Autoencoder:
        """A new one."""
        return NumbersAutoencoder(self.latent_dim)

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """A point on a circle, whose angle is the label, and its harmonics."""
        angles = np.outer(labels, 2 * np.pi / 10 * np.arange(1, WIDTH // 2 + 1))
        points = 2 * np.concatenate([np.cos(angles), np.sin(angles)], 1)
        return [*(points + rng.normal(0, 0.2, points.shape)).tolist()]


class Word(ToyModality):
    """Integer symbols with a linear autoencoder of their one-hot code; raw is a list of them."""

    kind = "word"

    def autoencoder(self) -> Autoencoder:
        """A new one."""
        return WordAutoencoder(self.latent_dim)

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """The digits of the label in base three."""
        return [[label // SYMBOLS**place % SYMBOLS for place in range(LENGTH)] for label in labels]


class Scalar(ToyModality):
    """One real number that is its own latent; raw is a list of one float."""

    kind = "scalar"

    def autoencoder(self) -> Autoencoder:
        """A new one, without parameters."""
        return ExactCode()

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """A third of the label."""
        return [[label / 3 + float(rng.normal(0, 0.1))] for label in labels]


def toy_modalities() -> dict[str, Modality]:
    """One of each, by name."""
    return {
        "numbers": Numbers(ModalityConfig(latent_dim=4)),
        "word": Word(ModalityConfig(latent_dim=5)),
        "scalar": Scalar(ModalityConfig(latent_dim=1)),
    }


def toy_items(modalities: Mapping[str, Modality], rows: int, split: SplitName) -> dict[str, Tensor]:
    """Items of rows in which all modalities express the same label, 0 to 9 in turn."""
    labels = [row % 10 for row in range(rows)]
    rng = np.random.default_rng([rows, *split.encode()])
    return {
        name: torch.stack([toy.preprocess(raw) for raw in toy.examples(labels, split, rng)])
        for name, toy in modalities.items()
    }
