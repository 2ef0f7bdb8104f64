"""Example data of the modalities of tables, for labels 0 to 9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy.random import Generator

from mld_core import SplitName

LABELS = 10
STEPS = 1000
"""Distinct numbers of a label, over all splits."""

NAMES = (
    ("zero", "null"), ("one", "eins"), ("two", "zwei"), ("three", "drei"), ("four", "vier"),
    ("five", "fünf"), ("six", "sechs"), ("seven", "sieben"), ("eight", "acht"), ("nine", "neun"),
)  # fmt: skip
"""Categories of each label: its name in English and in German."""

PEAK_WIDTH = 0.04
NOISE_STD = 0.05


def sample_numbers(
    labels: Sequence[int],
    split: SplitName,
    rng: Generator,
    bounds: tuple[float, float],
    size: int,
) -> list[tuple[float, ...]]:
    """Numbers between the bounds whose place there, in tenths, is the label.

    Each label has a thousand numbers; each belongs to one split.
    """
    low, high = bounds
    tenths = rng.integers(0, STEPS // 10, size=(len(labels), size))
    digits = {"train": (0, 8), "validation": (8, 9), "test": (9, 10)}[split]
    steps = 10 * tenths + rng.integers(*digits, size=tenths.shape)
    places = (np.array(labels, dtype=float).reshape(-1, 1) + (steps + 0.5) / STEPS) / LABELS
    return [tuple(row) for row in (low + (high - low) * places).tolist()]


def sample_categories(labels: Sequence[int], rng: Generator, values: Sequence[str]) -> list[str]:
    """One of the names of each label, or of the given values whose last digit of place it is.

    A split has the same categories as another.
    """
    groups = [[*values[label::LABELS]] for label in range(LABELS)] if values else NAMES
    pools = [groups[label] or values for label in labels]
    return [pool[int(rng.integers(len(pool)))] for pool in pools]


def sample_vectors(
    labels: Sequence[int], rng: Generator, length: int
) -> list[Float64[np.ndarray, " length"]]:
    """Noisy spectra: the place of a peak is the label, in tenths of the length.

    Splits differ by the noise.
    """
    places = (np.arange(length) + 0.5) / length
    vectors = []
    for label in labels:
        centre = (label + 0.5 + rng.uniform(-0.2, 0.2)) / LABELS
        width = max(PEAK_WIDTH, 0.5 / length)
        peak = rng.uniform(0.8, 1.2) * np.exp(-(((places - centre) / width) ** 2) / 2)
        vectors.append(peak + rng.normal(0, NOISE_STD, length))
    return vectors
