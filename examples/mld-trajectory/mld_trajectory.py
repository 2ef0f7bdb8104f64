"""The modality `trajectory`: pen strokes, as a sequence of points with pen lifts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu

from mld_core import Autoencoder, Classifier, Metric, Modality, ModalityConfig, hookimpl

MLD_API = 1
SCATTER = 0.05  # standard deviation of a coordinate about its reconstruction; the area is 2 wide
# The ten digits as a hand writes them: strokes of corners (x, y) on a square of 0..9, y downwards.
GLYPHS = [
    "51 23 26 58 76 73 51",
    "33 51 58",
    "23 51 73 65 28 78",
    "22 51 72 54 76 58 27",
    "61 26 76|64 68",
    "71 31 24 54 76 58 27",
    "61 34 26 48 77 65 26",
    "21 71 48",
    "54 23 51 73 54 26 58 76 54",
    "74 53 22 51 72 74 58",
]


class TrajectoryConfig(ModalityConfig):
    """What a spec may say about pen strokes."""

    latent_dim: int = Field(16, ge=1, description="numbers in the latent of one trajectory")
    points: int = Field(48, ge=8, le=1024, description="points a trajectory is resampled to")
    size: float = Field(28, gt=0, description="side of the square area, in the data's own unit")


class TrajectoryAutoencoder(Autoencoder):
    """Coordinates are Gaussian about what the decoder draws; the pen is a coin at each point."""

    def __init__(self, config):
        super().__init__()
        self.points = config.points
        self.encoder = _perceptron(3 * config.points, 512, 256, config.latent_dim)
        self.decoder = _perceptron(config.latent_dim, 256, 512, 3 * config.points)

    def encode(self, x):
        """A latent inside (−1, 1); blurred in training, so that near latents draw alike."""
        z = torch.tanh(self.encoder(x.flatten(1)).float())
        return z + 0.1 * torch.randn_like(z) if self.training else z

    def decode(self, z):
        """Coordinates within the area, and the pen up (−1) or down (1)."""
        drawn = self._drawn(z)
        pen = torch.where(drawn[..., 2:] > 0, 1.0, -1.0)
        return torch.cat([drawn[..., :2].clamp(-1, 1), pen], dim=-1)

    def loss(self, z, x):
        """−log p(x | z) up to a constant."""
        drawn = self._drawn(z)
        squares = (drawn[..., :2] - x[..., :2]).square().sum((1, 2))
        down = (x[..., 2] > 0).float()
        pen = binary_cross_entropy_with_logits(drawn[..., 2], down, reduction="none").sum(1)
        return squares / (2 * SCATTER**2) + pen

    def _drawn(self, z):
        return self.decoder(z).float().unflatten(1, (self.points, 3))


class TrajectoryClassifier(Classifier):
    """A multilayer perceptron over all points."""

    def __init__(self, config, classes):
        super().__init__()
        self.inner = _perceptron(3 * config.points, 256, 64)
        self.outer = nn.Linear(64, classes)

    def features(self, x):
        """64 numbers an item."""
        return silu(self.inner(x.flatten(1)).float())

    def forward(self, x):
        """The logits of each item."""
        return self.outer(self.features(x)).float()


def _perceptron(*widths):
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def point_error(items, originals):
    """Mean distance of corresponding points, in per cent of the area's side."""
    if not (len(items) and len(originals)):
        raise ValueError("no items to measure")
    return float((items - originals)[..., :2].norm(dim=-1).mean()) * 50


class Trajectory(Modality):
    """Pen strokes; raw is an array "point 3" of x, y and pen.

    x and y (downwards) lie within 0..size; the pen is 0 at a point that it is lifted to, else 1.
    """

    kind = "trajectory"
    Config = TrajectoryConfig

    def read(self, source):
        """The trajectory in a CSV file: x,y,pen in each line, no header."""
        return np.loadtxt(source, delimiter=",", ndmin=2)

    def preprocess(self, raw):
        """Points at equal steps along the pen's way, lifts included; "point 3" in [−1, 1].

        A trajectory of just `points` points is taken as it is.
        """
        if raw.ndim != 2 or raw.shape[1] != 3 or not len(raw):
            raise ValueError(f"shape {raw.shape}: expected x, y and pen for each point")
        if not (raw[:, :2].min() >= 0 and raw[:, :2].max() <= self.config.size):
            told = f"coordinates from {raw[:, :2].min():g} to {raw[:, :2].max():g}"
            raise ValueError(f"{told}: outside 0..size, and size is {self.config.size:g}")
        if len(raw) != self.config.points:
            raw = _resampled(raw, self.config.points)
        xy, pen = 2 * raw[:, :2] / self.config.size - 1, np.where(raw[:, 2:] > 0.5, 1, -1)
        return torch.tensor(np.hstack([xy, pen]), dtype=torch.float32)

    def augment(self, x, generator):
        """Each trajectory turned, stretched and moved a little."""
        turn = torch.eye(2).to(x) + 0.1 * torch.randn(len(x), 2, 2, generator=generator).to(x)
        shift = 0.05 * torch.randn(len(x), 1, 2, generator=generator).to(x)
        return torch.cat([(x[..., :2] @ turn + shift).clamp(-1, 1), x[..., 2:]], dim=-1)

    def autoencoder(self):
        """A multilayer perceptron in and out."""
        return TrajectoryAutoencoder(self.config)

    def classifier(self, classes):
        """A multilayer perceptron with 64 features."""
        return TrajectoryClassifier(self.config, classes)

    def metrics(self):
        """How near a reconstruction's points are."""
        return {"point_error": Metric(point_error, "originals", "lower", best=0.0, unit="%")}

    def write(self, x, stem):
        """A CSV file, as `read` reads it."""
        path = stem.with_name(f"{stem.name}.csv")
        xy = (x[:, :2].double().numpy() + 1) * self.config.size / 2
        pen = (x[:, 2:] > 0).numpy()
        np.savetxt(path, np.hstack([xy, pen]), fmt=["%.4f", "%.4f", "%d"], delimiter=",")
        return path

    def preview(self, x, stem):
        """The drawing."""
        moves = zip(x.tolist(), ["M", *["L" if pen > 0 else "M" for pen in x[1:, 2]]], strict=True)
        way = " ".join(f"{move}{50 * a + 55:.1f},{50 * b + 55:.1f}" for (a, b, _), move in moves)
        pen = 'fill="none" stroke="black" stroke-width="6" stroke-linecap="round"'
        path = stem.with_name(f"{stem.name}.svg")
        area = 'viewBox="0 0 110 110" width="110" height="110"'
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" {area}><path d="{way}" {pen}/></svg>'
        )
        return [path]

    def examples(self, labels, split, rng):
        """Digits, each drawn a little turned, stretched, moved and shaken."""
        return [_glyph(GLYPHS[label], self.config.size, rng) for label in labels]


def _resampled(raw, points):
    steps = np.hypot(*np.diff(raw[:, :2], axis=0).T)
    way = np.concatenate([[0], np.cumsum(steps)])
    places = np.linspace(0, way[-1], points)
    segments = np.searchsorted(way, places).clip(0, len(raw) - 1)
    xy = [np.interp(places, way, raw[:, axis]) for axis in (0, 1)]
    return np.stack([*xy, raw[segments, 2]], axis=1)


def _glyph(strokes, size, rng):
    corners = [
        (int(x), int(y), place > 0)
        for stroke in strokes.split("|")
        for place, (x, y) in enumerate(stroke.split())
    ]
    raw = np.array(corners, dtype=float)
    shaken = raw[:, :2] - 4.5 + rng.normal(0, 0.25, (len(raw), 2))
    turn = np.eye(2) + rng.normal(0, 0.1, (2, 2))
    xy = shaken @ turn + rng.normal(4.5, 0.4, 2)
    return np.hstack([(xy / 9 * size).clip(0, size), raw[:, 2:]])


@hookimpl
def register_modalities():
    return [Trajectory]
