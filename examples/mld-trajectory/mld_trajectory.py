"""The modality `trajectory`: pen strokes, as a sequence of points at which the pen may be up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu

from mld_core import Autoencoder, Classifier, Metric, Modality, ModalityConfig, hookimpl

MLD_API = 1
COORDINATE_STD = 0.05  # of a coordinate in [−1, 1] around its reconstruction, as `loss` assumes
# Pen strokes of the ten digits: corners (x, y) on a square of 0..9, y downwards; "|" lifts the pen.
DIGIT_STROKES = [
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
    """Settings of the modality `trajectory`."""

    latent_dim: int = Field(16, ge=1, description="length of the latent vector of one trajectory")
    points: int = Field(
        48, ge=8, le=1024, description="number of points that a trajectory is resampled to"
    )
    size: float = Field(
        28, gt=0, description="side of the square drawing area, in the unit of the data"
    )


class TrajectoryAutoencoder(Autoencoder):
    """A perceptron in each direction: coordinates are Gaussian, the pen is Bernoulli."""

    def __init__(self, config):
        super().__init__()
        self.points = config.points
        self.encoder = _perceptron(3 * config.points, 512, 256, config.latent_dim)
        self.decoder = _perceptron(config.latent_dim, 256, 512, 3 * config.points)

    def encode(self, x):
        """A latent in (−1, 1); noisy in training, so that near latents decode to near items."""
        z = torch.tanh(self.encoder(x.flatten(1)).float())
        return z + 0.1 * torch.randn_like(z) if self.training else z

    def decode(self, z):
        """Coordinates in [−1, 1], and the pen up (−1) or down (1)."""
        points = self._points(z)
        pen = torch.where(points[..., 2:] > 0, 1.0, -1.0)
        return torch.cat([points[..., :2].clamp(-1, 1), pen], dim=-1)

    def loss(self, z, x):
        """−log p(x | z) up to a constant."""
        points = self._points(z)
        squared_error = (points[..., :2] - x[..., :2]).square().sum((1, 2))
        is_down = (x[..., 2] > 0).float()
        pen = binary_cross_entropy_with_logits(points[..., 2], is_down, reduction="none").sum(1)
        return squared_error / (2 * COORDINATE_STD**2) + pen

    def _points(self, z):
        """Unclamped coordinates and the logit of the pen being down, "batch point 3"."""
        return self.decoder(z).float().unflatten(1, (self.points, 3))


class TrajectoryClassifier(Classifier):
    """A multilayer perceptron over all points."""

    def __init__(self, config, classes):
        super().__init__()
        self.inner = _perceptron(3 * config.points, 256, 64)
        self.outer = nn.Linear(64, classes)

    def features(self, x):
        """The 64 activations of the hidden layer."""
        return silu(self.inner(x.flatten(1)).float())

    def forward(self, x):
        """The logits of each item."""
        return self.outer(self.features(x)).float()


def _perceptron(*widths):
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def point_error(items, originals):
    """Mean distance between corresponding points, in per cent of the side of the area."""
    if not (len(items) and len(originals)):
        raise ValueError("there are no items to measure")
    return float((items - originals)[..., :2].norm(dim=-1).mean()) * 50


class Trajectory(Modality):
    """Pen strokes, such as handwriting and drawings.

    `raw` is an array of shape (any number of points, 3): x, y (downwards) and pen. Coordinates lie
    within 0..size; the pen is 0 where it moves to the point without drawing, else 1. An item is a
    float32 tensor of shape (points, 3) with values in [−1, 1], and pen −1 or 1. The latent, of
    shape (latent_dim,), lies in (−1, 1).
    """

    kind = "trajectory"
    Config = TrajectoryConfig

    def read(self, source):
        """The trajectory in a CSV file without header: a line x,y,pen for each point."""
        return np.loadtxt(source, delimiter=",", ndmin=2)

    def preprocess(self, raw):
        """The trajectory resampled at equal steps along its path, pen lifts included.

        A trajectory that has `points` points already is not resampled.
        """
        if raw.ndim != 2 or raw.shape[1] != 3 or not len(raw):
            raise ValueError(
                f"expected x, y and pen for each point, got an array of shape {raw.shape}"
            )
        if not (raw[:, :2].min() >= 0 and raw[:, :2].max() <= self.config.size):
            raise ValueError(
                f"coordinates from {raw[:, :2].min():g} to {raw[:, :2].max():g} are outside "
                f"0..size, with size = {self.config.size:g}: set size to fit the data"
            )
        if len(raw) != self.config.points:
            raw = _resample(raw, self.config.points)
        xy, pen = 2 * raw[:, :2] / self.config.size - 1, np.where(raw[:, 2:] > 0.5, 1, -1)
        return torch.tensor(np.hstack([xy, pen]), dtype=torch.float32)

    def augment(self, x, generator):
        """A random linear map near the identity, and a shift, for each trajectory."""

        def draw(*shape):
            return torch.randn(len(x), *shape, generator=generator, device=x.device).to(x)

        matrix, shift = torch.eye(2).to(x) + 0.1 * draw(2, 2), 0.05 * draw(1, 2)
        return torch.cat([(x[..., :2] @ matrix + shift).clamp(-1, 1), x[..., 2:]], dim=-1)

    def autoencoder(self):
        """A new autoencoder of multilayer perceptrons."""
        return TrajectoryAutoencoder(self.config)

    def classifier(self, classes):
        """A new multilayer perceptron with 64 features."""
        return TrajectoryClassifier(self.config, classes)

    def metrics(self):
        """Distance between the points of reconstructions or samples and the true ones."""
        return {"point_error": Metric(point_error, "truth", "lower", best=0.0, unit="%")}

    def write(self, x, stem):
        """Write a CSV file that `read` accepts."""
        path = stem.with_name(f"{stem.name}.csv")
        xy = (x[:, :2].double().numpy() + 1) * self.config.size / 2
        pen = (x[:, 2:] > 0).numpy()
        np.savetxt(path, np.hstack([xy, pen]), fmt=["%.4f", "%.4f", "%d"], delimiter=",")
        return path

    def preview(self, x, stem):
        """Draw the strokes as an SVG file."""
        commands = ["M", *["L" if pen > 0 else "M" for pen in x[1:, 2]]]
        steps = zip(commands, x[:, :2].tolist(), strict=True)
        path_data = " ".join(f"{c}{50 * x + 55:.1f},{50 * y + 55:.1f}" for c, (x, y) in steps)
        pen = 'fill="none" stroke="black" stroke-width="6" stroke-linecap="round"'
        path = stem.with_name(f"{stem.name}.svg")
        area = 'viewBox="0 0 110 110" width="110" height="110"'
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" {area}><path d="{path_data}" {pen}/></svg>'
        )
        return [path]

    def examples(self, labels, split, rng):
        """Digits as pen strokes, each randomly distorted and shifted."""
        return [_draw_digit(DIGIT_STROKES[label], self.config.size, rng) for label in labels]


def _resample(raw, points):
    steps = np.hypot(*np.diff(raw[:, :2], axis=0).T)
    distances = np.concatenate([[0], np.cumsum(steps)])
    new_distances = np.linspace(0, distances[-1], points)
    segments = np.searchsorted(distances, new_distances).clip(0, len(raw) - 1)
    xy = [np.interp(new_distances, distances, raw[:, axis]) for axis in (0, 1)]
    return np.stack([*xy, raw[segments, 2]], axis=1)


def _draw_digit(strokes, size, rng):
    corners = [
        (int(x), int(y), index > 0)
        for stroke in strokes.split("|")
        for index, (x, y) in enumerate(stroke.split())
    ]
    raw = np.array(corners, dtype=float)
    centred = raw[:, :2] - 4.5 + rng.normal(0, 0.25, (len(raw), 2))
    matrix = np.eye(2) + rng.normal(0, 0.1, (2, 2))
    xy = centred @ matrix + rng.normal(4.5, 0.4, 2)
    return np.hstack([(xy / 9 * size).clip(0, size), raw[:, 2:]])


@hookimpl
def register_modalities():
    return [Trajectory]
