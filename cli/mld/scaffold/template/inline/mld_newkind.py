"""The modality `newkind`: short sequences of symbols, which a cell of a manifest holds itself.

The module works as it is; replace each part with your own. A datum takes this path:

    cell -- read --> raw -- preprocess --> item x -- encode --> latent z -- decode --> x -- cell -->

`mld check newkind` tests whether the module fulfils mld's plugin contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from mld_core import (
    SPLITS,
    Autoencoder,
    Classifier,
    MediaType,
    Metric,
    Modality,
    ModalityConfig,
    SplitName,
    hookimpl,
)

MLD_API = 1  # version of mld's plugin contract
SYMBOLS = "ACGT"


class NewKindConfig(ModalityConfig):
    """Settings in a spec beside `kind`; each has a default, a range and a description."""

    latent_dim: int = Field(default=16, ge=1, description="width of the latent")
    length: int = Field(default=12, ge=6, le=1024, description="symbols in a sequence")


class NewKindAutoencoder(Autoencoder):
    """Two small networks; use any architecture without batch statistics."""

    def __init__(self, config: NewKindConfig) -> None:
        super().__init__()
        self.length = config.length
        width = config.length * len(SYMBOLS)
        self.encoder = nn.Sequential(
            nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, config.latent_dim), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, 128), nn.SiLU(), nn.Linear(128, width)
        )

    def encode(self, x: Tensor) -> Tensor:
        """The flat latent of each item: float32, deterministic in eval mode."""
        z: Tensor = self.encoder(one_hot(x, len(SYMBOLS)).flatten(1).float()).float()
        return z + 0.05 * torch.randn_like(z) if self.training else z

    def decode(self, z: Tensor) -> Tensor:
        """The item of each latent, with the shape and dtype of `preprocess`: no logits."""
        return self._logits(z).argmax(2)

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        """−log p(x | z) of each item, in nats."""
        return cross_entropy(self._logits(z).mT, x, reduction="none").sum(1)

    def _logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(z).float().unflatten(1, (self.length, len(SYMBOLS)))
        return logits


class NewKindClassifier(Classifier):
    """Only measures coherence and Frechet distances, so it may be small."""

    def __init__(self, config: NewKindConfig, classes: int) -> None:
        super().__init__()
        width = config.length * len(SYMBOLS)
        self.hidden = nn.Sequential(nn.Linear(width, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU())
        self.head = nn.Linear(64, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, of constant width; Frechet distances are computed on it."""
        hidden: Tensor = self.hidden(one_hot(x, len(SYMBOLS)).flatten(1).float())
        return hidden.float()

    def forward(self, x: Tensor) -> Tensor:
        """The logits of each item over the dataset's classes."""
        logits: Tensor = self.head(self.features(x))
        return logits.float()


def symbol_error_rate(items: Tensor, originals: Tensor) -> float:
    """The share of symbols that differ; ValueError for an empty batch."""
    if not (len(items) and len(originals)):
        raise ValueError("no items to measure")
    return float((items != originals).double().mean())


class NewKind(Modality):
    """Sequences of a fixed number of symbols; raw is a str such as "ACGTTACG"."""

    kind = "newkind"  # the name in specs, and of the entry point in pyproject.toml
    Config = NewKindConfig
    config: NewKindConfig
    inline = True
    media_type: MediaType = "text"  # what users type on a page: this or "number"

    def read(self, source: Path | str) -> str:
        """The raw datum of a cell; ValueError if it is invalid."""
        raw = str(source).strip().upper()
        unknown = sorted(set(raw) - set(SYMBOLS))
        if unknown:
            raise ValueError(f"has the symbol {unknown[0]!r}: only {SYMBOLS} are accepted")
        return raw

    def preprocess(self, raw: str) -> Tensor:
        """One raw datum as a tensor of fixed shape; ValueError names the setting to change."""
        if len(raw) != self.config.length:
            raise ValueError(f"has {len(raw)} symbols: set length: {len(raw)} to accept it")
        return torch.tensor([SYMBOLS.index(symbol) for symbol in raw])

    def autoencoder(self) -> NewKindAutoencoder:
        """A new, untrained autoencoder."""
        return NewKindAutoencoder(self.config)

    def classifier(self, classes: int) -> NewKindClassifier:
        """A new, untrained classifier."""
        return NewKindClassifier(self.config, classes)

    def metrics(self) -> dict[str, Metric]:
        """The quality metrics of this modality; optional."""
        return {"symbol_errors": Metric(symbol_error_rate, "truth", better="lower", best=0.0)}

    def cell(self, x: Tensor) -> str:
        """The text of a manifest's cell for an item, which `read` accepts."""
        return "".join(SYMBOLS[index] for index in x.tolist())

    def write(self, x: Tensor, stem: Path) -> Path:
        """Write one item to one file, `stem` plus a suffix; the same item gives the same bytes."""
        path = stem.with_name(f"{stem.name}.txt")
        path.write_text(self.cell(x) + "\n", encoding="utf-8")
        return path

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[str]:
        """One raw datum per label 0..9: a motif, repeated and with two errors, expresses it."""
        return [self._example(label, split, rng) for label in labels]

    def _example(self, label: int, split: SplitName, rng: np.random.Generator) -> str:
        motif = [label // len(SYMBOLS) ** place % len(SYMBOLS) for place in range(3)]
        while True:
            sequence = np.resize(motif, self.config.length)
            places = rng.choice(self.config.length, 2, replace=False)
            sequence[places] = rng.integers(len(SYMBOLS), size=2)
            raw = "".join(SYMBOLS[index] for index in sequence)
            # A sequence may be drawn twice, but must not be in two splits.
            if SPLITS[hashlib.sha256(raw.encode()).digest()[0] % len(SPLITS)] == split:
                return raw


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """Return the modality to mld, which finds this module by its entry point."""
    return [NewKind]
