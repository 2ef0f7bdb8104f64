from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

Augment = Callable[[Tensor, Generator], Tensor]


def _train(network: nn.Module, loss, rows: int, steps: int, learning_rate: float) -> None:
    """Train with Adam, cosine decay and batches of 128; eval mode afterwards."""
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        batch = torch.randint(rows, (min(rows, 128),), generator=generator)
        optimiser.zero_grad()
        loss(batch, generator).mean().backward()
        optimiser.step()
        decay.step()
    network.eval()


@pytest.fixture(scope="session")
def train_autoencoder() -> Callable[..., None]:
    """A function that trains an autoencoder on items."""

    def train_autoencoder(
        autoencoder, x: Tensor, steps: int, augment: Augment | None = None, learning_rate=1e-3
    ) -> None:
        def loss(batch: Tensor, generator: Generator) -> Tensor:
            items = augment(x[batch], generator) if augment else x[batch]
            return autoencoder.loss(autoencoder.encode(items), items)

        _train(autoencoder, loss, len(x), steps, learning_rate)

    return train_autoencoder


@pytest.fixture(scope="session")
def train_classifier() -> Callable[..., None]:
    """A function that trains a classifier on labelled items."""

    def train_classifier(
        classifier, x: Tensor, labels: Tensor, steps: int, augment: Augment | None = None
    ) -> None:
        def loss(batch: Tensor, generator: Generator) -> Tensor:
            items = augment(x[batch], generator) if augment else x[batch]
            return cross_entropy(classifier(items), labels[batch])

        _train(classifier, loss, len(x), steps, 1e-3)

    return train_classifier
