"""The exact code of numbers, and their classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_table.scales import MAX_MAGNITUDE, QuantileScale, StandardScale

Numbers = Float[Tensor, "batch size"]

PRECISION = 0.1
"""Standard deviation of the Gaussian around a latent, in standard deviations of the data."""
MAX_LOG = 80.0
"""Largest magnitude of a decoded logarithm: its exponential is a normal number of float32."""
FEATURE_DIM = 64
"""Width of the classifier's features."""
BINS = 48
BIN_RANGE = 3.0
"""The outermost soft bins of the classifier, in standard deviations."""


class NumberAutoencoder(Autoencoder):
    """An exact code without trainable parameters: the coordinates of a scale.

    Args:
        log: whether the scale is one of logarithms.
        minimum: of decoded values, if any.
        maximum: likewise.
        is_integer: which coordinates are decoded as whole numbers; none by default.
    """

    is_integer: Tensor

    def __init__(
        self,
        scale: StandardScale | QuantileScale,
        log: bool = False,
        minimum: float | None = None,
        maximum: float | None = None,
        is_integer: Sequence[bool] = (False,),
    ) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("is_integer", torch.tensor(is_integer), persistent=False)
        self.log = log
        self.bounds = (
            -MAX_MAGNITUDE if minimum is None else minimum,
            MAX_MAGNITUDE if maximum is None else maximum,
        )

    def encode(self, x: Numbers) -> Numbers:
        """The coordinates of each row of numbers."""
        # In double precision, so that equal numbers have logarithms equal to the quantiles' ones,
        # and on the processor, since Apple's GPUs have none.
        values = x.cpu().double().log().float().to(x.device) if self.log else x.float()
        return self.scale.to_coordinates(values)

    def decode(self, z: Numbers) -> Numbers:
        """The numbers of each latent, within the bounds."""
        values = self.scale.to_numbers(z.float())
        if self.log:
            values = values.clamp(-MAX_LOG, MAX_LOG).exp()
        return torch.where(self.is_integer, values.round(), values).clamp(*self.bounds)

    def loss(self, z: Numbers, x: Numbers) -> Float[Tensor, " batch"]:
        """−log of a Gaussian of coordinates around the latent, without its constant."""
        error = (z.float() - self.encode(x)) / PRECISION
        return error.square().sum(1) / 2


class NumberClassifier(Classifier):
    """Perceptron on soft bins of each coordinate, so that narrow ranges are told apart at once."""

    centres: Tensor

    def __init__(self, code: Autoencoder, size: int, classes: int) -> None:
        super().__init__()
        self.code = code
        centres = torch.linspace(-BIN_RANGE, BIN_RANGE, BINS)
        self.register_buffer("centres", centres, persistent=False)
        self.hidden = nn.Linear(size * (BINS + 1), FEATURE_DIM)
        self.logits = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Numbers) -> Float[Tensor, "batch feature"]:
        """The 64 activations of the hidden layer."""
        z = self.code.encode(x).clamp(-2 * BIN_RANGE, 2 * BIN_RANGE)[:, :, None]
        width = 2 * BIN_RANGE / BINS
        bins = torch.exp(-((z - self.centres) / width).square() / 2)
        return functional.silu(self.hidden(torch.cat([z, bins], 2).flatten(1))).float()

    def forward(self, x: Numbers) -> Float[Tensor, "batch classes"]:
        """The logits of each row."""
        logits: Tensor = self.logits(self.features(x))
        return logits.float()
