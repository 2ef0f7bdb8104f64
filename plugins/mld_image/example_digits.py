"""Real handwritten digits, as examples of labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mld_core import SplitName

SIDE = 32

_CYCLE = 20
_PARTS: dict[SplitName, range] = {
    "train": range(14),
    "validation": range(14, 17),
    "test": range(17, 20),
}
"""Which of every twenty consecutive scans of a label are whose: splits share writers, not scans."""


def draw_digits(
    labels: Sequence[int], split: SplitName, rng: np.random.Generator
) -> list[Image.Image]:
    """A grey picture of a digit per label, white on black, each a little turned and moved.

    The scans are those bundled with scikit-learn, 1,797 of 8 × 8 pixels. None is drawn twice
    before a split's scans of its label are used up.
    """
    wanted = np.asarray(labels)
    chosen = np.empty((len(wanted), 8, 8), dtype=np.uint8)
    for label in np.unique(wanted):
        scans = _scans(int(label), split)
        rows = np.flatnonzero(wanted == label)
        chosen[rows] = scans[rng.choice(len(scans), len(rows), replace=len(rows) > len(scans))]
    return [_picture(scan, rng) for scan in chosen]


@cache
def _scans(label: int, split: SplitName) -> UInt8[np.ndarray, "scan 8 8"]:
    # Importing scikit-learn takes a second, and only the examples need it.
    from sklearn.datasets import load_digits

    bundle = load_digits()
    scans = bundle.images[bundle.target == label]
    mine = scans[np.isin(np.arange(len(scans)) % _CYCLE, _PARTS[split])]
    return (mine * (255 / 16)).round().astype(np.uint8)


def _picture(scan: UInt8[np.ndarray, "8 8"], rng: np.random.Generator) -> Image.Image:
    """The scan with a black margin, enlarged smoothly; turned, stretched and moved."""
    enlarged = Image.fromarray(np.pad(scan, 1)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    angle = math.radians(rng.uniform(-8, 8))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    to_source = turn / rng.uniform(0.95, 1.05, size=2)
    middle = np.full(2, SIDE / 2)
    offset = middle - to_source @ (middle + rng.uniform(-1, 1, size=2))
    rows = np.column_stack([to_source, offset]).ravel().tolist()
    return enlarged.transform((SIDE, SIDE), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)
