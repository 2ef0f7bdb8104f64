"""Example data of the modality `image`: handwritten digits from scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image

from mld_core import SplitName

SIDE = 32
"""Width and height of an example, in pixels."""

_SCANS_OF_SPLIT = {"train": range(14), "validation": range(14, 17), "test": range(17, 20)}
"""Indices modulo 20 of each split's scans; splits share writers, but no scan."""


def sample_digits(labels: Sequence[int], split: SplitName, rng: Generator) -> list[Image.Image]:
    """One greyscale image per label: the digit in white on black, slightly rotated and shifted.

    The scans are the 1,797 of 8 × 8 pixels bundled with scikit-learn. A scan is used twice only
    where a label has more rows than its split has scans.
    """
    digits = np.asarray(labels)
    chosen = np.empty((len(digits), 8, 8), dtype=np.uint8)
    for digit in np.unique(digits):
        scans = load_scans(int(digit), split)
        rows = np.flatnonzero(digits == digit)
        chosen[rows] = scans[rng.choice(len(scans), len(rows), replace=len(rows) > len(scans))]
    return [_enlarge_and_jitter(scan, rng) for scan in chosen]


@cache
def load_scans(digit: int, split: SplitName) -> UInt8[np.ndarray, "scan 8 8"]:
    """All scans of a digit that belong to a split."""
    rows = _read_bundle()
    scans = rows[rows[:, -1] == digit, :-1].reshape(-1, 8, 8)
    in_split = np.isin(np.arange(len(scans)) % 20, _SCANS_OF_SPLIT[split])
    levels: np.ndarray = (scans[in_split] * (255 / 16)).round()
    return levels.astype(np.uint8)


@cache
def _read_bundle() -> UInt8[np.ndarray, "scan 65"]:
    """The 64 grey levels of each scan, 0 to 16, and its digit, from scikit-learn's file.

    `sklearn.datasets.load_digits` reads the same file, but importing it takes two seconds.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return np.loadtxt(path, delimiter=",", dtype=np.uint8)


def _enlarge_and_jitter(scan: UInt8[np.ndarray, "8 8"], rng: Generator) -> Image.Image:
    """The scan with a black margin, enlarged, then randomly rotated, stretched and shifted."""
    enlarged = Image.fromarray(np.pad(scan, 1)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    angle = math.radians(rng.uniform(-8, 8))
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    output_to_input = rotation / rng.uniform(0.95, 1.05, size=2)
    centre = np.full(2, SIDE / 2)
    offset = centre - output_to_input @ (centre + rng.uniform(-1, 1, size=2))
    coefficients = np.column_stack([output_to_input, offset]).ravel().tolist()
    return enlarged.transform(
        (SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
