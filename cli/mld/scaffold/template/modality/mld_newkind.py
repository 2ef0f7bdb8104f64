"""The modality `newkind`: signals with a fixed number of samples, such as spectra.

The module works as it is; replace each part with your own. A datum takes this path:

    raw -- preprocess --> item x -- encode --> latent z -- decode --> item x -- write --> file

`mld check newkind` tests whether the module fulfils mld's plugin contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, JsonValue
from torch import Generator, Tensor, nn

from mld_core import (
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
NOISE = 0.2  # standard deviation of an item given its latent, as the loss assumes
Signal = NDArray[np.float64]


class NewKindConfig(ModalityConfig):
    """Settings in a spec beside `kind`; each has a default, a range and a description."""

    latent_dim: int = Field(default=8, ge=1, description="width of the latent")
    length: int = Field(default=32, ge=10, le=65536, description="samples per signal")


class NewKindAutoencoder(Autoencoder):
    """Two small networks; use any architecture without batch statistics."""

    def __init__(self, config: NewKindConfig) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(config.length, 128), nn.SiLU(), nn.Linear(128, config.latent_dim), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent_dim, 128), nn.SiLU(), nn.Linear(128, config.length)
        )

    def encode(self, x: Tensor) -> Tensor:
        """The flat latent of each item: float32, deterministic in eval mode.

        Training adds a little noise, so that similar latents decode to similar items.
        """
        z: Tensor = self.encoder(x).float()
        return z + 0.05 * torch.randn_like(z) if self.training else z

    def decode(self, z: Tensor) -> Tensor:
        """The item of each latent, with the shape, dtype and range of `preprocess`."""
        x: Tensor = self.decoder(z)
        return x.float()

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        """−log p(x | z) per item, up to a constant: Gaussian with mean `decode(z)`."""
        return (self.decode(z) - x).square().sum(1) / (2 * NOISE**2)


class NewKindClassifier(Classifier):
    """Predicts an item's label; used only to evaluate samples, so it may be small."""

    def __init__(self, config: NewKindConfig, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(config.length, 64), nn.SiLU())
        self.head = nn.Linear(64, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer, of constant width; Frechet distances are computed on it."""
        hidden: Tensor = self.hidden(x)
        return hidden.float()

    def forward(self, x: Tensor) -> Tensor:
        """The logits of each item over the dataset's classes."""
        logits: Tensor = self.head(self.features(x))
        return logits.float()


def root_mean_square(items: Tensor, originals: Tensor) -> float:
    """Root mean square error; ValueError for an empty batch."""
    if not (len(items) and len(originals)):
        raise ValueError("no items to measure")
    return float((items - originals).square().mean().sqrt())


class NewKind(Modality):
    """Signals with a fixed number of samples; raw is a one-dimensional NumPy array."""

    kind = "newkind"  # the name in specs, and of the entry point in pyproject.toml
    Config = NewKindConfig
    media_type: MediaType = "file"  # how pages show what `write` writes: "picture", "sound" or this
    config: NewKindConfig
    facts: Mapping[str, float]

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Signal]) -> dict[str, JsonValue]:
        """What is learnt from the training split, as JSON; available as `self.facts`."""
        signals = np.stack(list(raw))
        return {"mean": float(signals.mean()), "scale": float(signals.std()) or 1.0}

    def read(self, source: Path | str) -> Signal:
        """The raw datum of a file in a manifest; ValueError if the file is invalid."""
        return np.loadtxt(source, ndmin=1)

    def preprocess(self, raw: Signal) -> Tensor:
        """One raw datum as a tensor of fixed shape; ValueError names the setting to change."""
        if raw.shape != (self.config.length,):
            raise ValueError(f"has shape {raw.shape}: set length: {raw.size} to accept it")
        if not np.isfinite(raw).all():
            raise ValueError("has samples that are not finite numbers")
        scaled = (raw - self.facts["mean"]) / self.facts["scale"]
        return torch.tensor(scaled, dtype=torch.float32)

    def augment(self, x: Tensor, generator: Generator) -> Tensor:
        """Random variations of a batch that keep its labels; optional."""
        return x + 0.02 * torch.randn(x.shape, generator=generator, device=x.device)

    def autoencoder(self) -> NewKindAutoencoder:
        """A new, untrained autoencoder."""
        return NewKindAutoencoder(self.config)

    def classifier(self, classes: int) -> NewKindClassifier:
        """A new, untrained classifier."""
        return NewKindClassifier(self.config, classes)

    def metrics(self) -> dict[str, Metric]:
        """The quality metrics of this modality; optional."""
        return {"rms": Metric(root_mean_square, against="truth", better="lower", best=0.0)}

    def write(self, x: Tensor, stem: Path) -> Path:
        """Write one item to one file, `stem` plus a suffix, that `read` can read."""
        path = stem.with_name(f"{stem.name}.txt")
        np.savetxt(path, self._signal(x), fmt="%.6g")
        return path

    def preview(self, x: Tensor, stem: Path) -> list[Path]:
        """Pictures (SVG or PNG) for the report; not needed if `write` writes a picture."""
        heights = (70 - 20 * x).tolist()
        points = " ".join(f"{5 * i},{height:.1f}" for i, height in enumerate(heights))
        box = f'viewBox="-5 -30 {5 * len(x) + 5} 140" width="160" height="120"'
        line = f'<polyline points="{points}" fill="none" stroke="black" stroke-width="2"/>'
        path = stem.with_name(f"{stem.name}.svg")
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{line}</svg>'
        path.write_text(svg, encoding="utf-8")
        return [path]

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Signal]:
        """One raw datum per label 0..9: the position of a peak expresses the label."""
        position = np.arange(self.config.length) / self.config.length
        centres = (np.asarray(labels) + rng.uniform(0.3, 0.7, len(labels))) / 10
        heights, widths = rng.uniform(2, 3, len(labels)), rng.uniform(0.02, 0.04, len(labels))
        peaks = [
            height * np.exp(-(((position - centre) / width) ** 2) / 2)
            for centre, height, width in zip(centres, heights, widths, strict=True)
        ]
        return [peak + rng.normal(0, 0.1, self.config.length) for peak in peaks]

    def _signal(self, x: Tensor) -> Signal:
        scaled: Signal = x.double().numpy()
        return scaled * self.facts["scale"] + self.facts["mean"]


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """Return the modality to mld, which finds this module by its entry point."""
    return [NewKind]
