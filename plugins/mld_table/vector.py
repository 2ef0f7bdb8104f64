"""The modality `vector`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.random import Generator
from pydantic import Field, JsonValue
from torch import Tensor

from mld_core import Autoencoder, Metric, Modality, ModalityConfig, SplitName, Summary, hookimpl
from mld_table.examples import sample_vectors
from mld_table.line_plot import draw_line
from mld_table.metrics import distribution_metrics, error_metrics
from mld_table.npy_file import read_npy
from mld_table.number_networks import NumberAutoencoder
from mld_table.scales import MAX_MAGNITUDE, StandardScale
from mld_table.vector_networks import VectorAutoencoder, VectorClassifier

MAX_LENGTH = 16_384
"""Most numbers in a vector."""
EXAMPLE_LENGTH = 32
"""Numbers of an example where the config leaves the length open."""


class VectorConfig(ModalityConfig):
    """Settings of the modality `vector`."""

    latent_dim: int = Field(
        16,
        ge=1,
        le=MAX_LENGTH,
        description="width of the latent, at most; a vector that is no longer needs no training and"
        " is kept exactly",
    )
    length: int | None = Field(
        None,
        ge=1,
        le=MAX_LENGTH,
        description="numbers in a vector; by default those of most training vectors",
    )
    unit: str = Field(
        "", max_length=20, description="unit of the values, such as mV; shown beside metrics"
    )


class Vector(Modality):
    """Many numbers of one length: an embedding, a spectrum, a profile.

    `raw` is a one-dimensional NumPy array of numbers; a cell is the path of an .npy file that holds
    it. An item is a float32 tensor of shape (length,), in the unit of the data. The latent, of
    shape (latent_dim,), is learnt by a small autoencoder, or the standardised vector itself.
    """

    kind = "vector"
    Config = VectorConfig
    config: VectorConfig

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """The length of most vectors; mean and standard deviation of each of their numbers.

        Vectors of another length are left to `preprocess`, which names them.
        """
        assert isinstance(config, VectorConfig)
        moments: dict[int, _Moments] = {}
        for datum in raw:
            vector = _check_vector(datum)
            moments.setdefault(len(vector), _Moments(len(vector))).add(vector)
        if not moments:
            raise ValueError("there are no vectors to learn a scale from")
        counts = Counter({length: moment.count for length, moment in moments.items()})
        length = config.length or counts.most_common(1)[0][0]
        moment = moments.get(length)
        if moment is None:
            lengths = ", ".join(map(str, [*moments][:5]))
            raise ValueError(f"no vector has length = {length}, but {lengths}")
        return {"mean": moment.mean.tolist(), "std": moment.std.tolist()}

    @property
    def latent_shape(self) -> tuple[int]:
        """A vector's width: as configured, or the length if that is smaller."""
        return (min(self.config.latent_dim, self._length),)

    def read(self, source: Path | str) -> Float64[np.ndarray, " length"]:
        """The vector in an .npy file."""
        return _check_vector(read_npy(Path(source), MAX_LENGTH))

    def profile(self, raw: Any) -> Mapping[str, int]:
        """How many numbers it has."""
        return {"numbers": len(_check_vector(raw))}

    def preprocess(self, raw: Any) -> Float[Tensor, " length"]:
        """The numbers in float32."""
        vector = _check_vector(raw)
        if len(vector) != self._length:
            source = "length" if self.config.length else "most training vectors"
            raise ValueError(
                f"the vector has {len(vector)} numbers, and {source} {self._length}: all must have"
                " as many"
            )
        return torch.from_numpy(vector.astype(np.float32))

    def autoencoder(self) -> Autoencoder:
        """A new perceptron, or the exact code if the latent is as wide as the vector."""
        if self.latent_dim == self._length:
            return NumberAutoencoder(StandardScale(self.facts))
        return VectorAutoencoder(StandardScale(self.facts), self._length, self.latent_dim)

    def classifier(self, classes: int) -> VectorClassifier:
        """A new perceptron with 64 features."""
        return VectorClassifier(StandardScale(self.facts), self._length, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Errors of reconstructions and conditional samples, and the distance of distributions."""
        unit = self.config.unit
        return {**error_metrics(unit), **distribution_metrics(unit)}

    def summarise(self, draws: Float[Tensor, "draw length"]) -> Summary:
        """The median of each number, with the mean of their standard deviations."""
        best = draws.double().quantile(0.5, dim=0).to(draws.dtype)
        std = {"std": float(draws.double().std(0).mean())} if len(draws) > 1 else {}
        return Summary(best, std)

    def write(self, x: Float[Tensor, " length"], stem: Path) -> Path:
        """Write the vector as an .npy file of float32."""
        path = stem.with_name(f"{stem.name}.npy")
        with path.open("wb") as file:
            np.save(file, x.numpy(), allow_pickle=False)
        return path

    def preview(self, x: Float[Tensor, " length"], stem: Path) -> list[Path]:
        """Draw the vector as a line, in an SVG file."""
        path = stem.with_name(f"{stem.name}.svg")
        path.write_text(draw_line(x.tolist()), encoding="utf-8")
        return [path]

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: Generator
    ) -> list[Float64[np.ndarray, " length"]]:
        """Noisy spectra with a peak at the place that the label says."""
        return sample_vectors(labels, rng, self.config.length or EXAMPLE_LENGTH)

    @cached_property
    def _length(self) -> int:
        mean: Any = self.facts["mean"]
        return len(mean)


class _Moments:
    """Streaming mean and standard deviation of vectors (Welford 1962)."""

    def __init__(self, length: int) -> None:
        self.count = 0
        self.mean = np.zeros(length)
        self._squares = np.zeros(length)

    def add(self, vector: Float64[np.ndarray, " length"]) -> None:
        """Take one more vector into account."""
        self.count += 1
        difference = vector - self.mean
        self.mean += difference / self.count
        self._squares += difference * (vector - self.mean)

    @property
    def std(self) -> Float64[np.ndarray, " length"]:
        """The standard deviations; 1 in place of 0."""
        std = np.sqrt(self._squares / self.count)
        return np.where(std > 0, std, 1.0)


def _check_vector(raw: Any) -> Float64[np.ndarray, " length"]:
    """A vector in double precision. ValueError if it is none."""
    array = np.asarray(raw)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"a vector holds real numbers, not {array.dtype}")
    if array.ndim != 1 or not 1 <= len(array) <= MAX_LENGTH:
        raise ValueError(
            f"the array has shape {array.shape}: a vector has one axis of up to {MAX_LENGTH:,}"
            " numbers"
        )
    vector = array.astype(np.float64)
    invalid = np.flatnonzero(~(np.abs(vector) <= MAX_MAGNITUDE))
    if len(invalid):
        place = int(invalid[0])
        raise ValueError(
            f"number {place} is {vector[place]:g}: all must be finite, and at most"
            f" {MAX_MAGNITUDE:g} in magnitude"
        )
    return vector


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [Vector]
