"""The autoencoder and the classifier of pictures: small convolutional networks of one shape.

Both go down by strides of two to a map of three or four pixels a side, with four times the
channels each time, up to 128. One dense hidden layer then sees the whole map.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mld_core import Autoencoder, Classifier

FEATURES = 64
"""Width of the classifier's features, whatever the pictures."""
SCALE = 0.05
"""Scale of the Laplace distribution of a pixel around its reconstruction."""
_COARSEST = 4
_HIDDEN = 128
_NARROWEST, _WIDEST = 16, 128
_GROUP = 16


class ImageAutoencoder(Autoencoder):
    """Squares of pixels in [0, 1] to flat latents and back; the errors are Laplace.

    Nothing holds the latents in shape: on digits, noise on them while training made neighbours
    decode no better and reconstructions worse.
    """

    def __init__(self, latent_dim: int, size: int, channels: int) -> None:
        super().__init__()
        self.encoder = _encoder(size, channels, latent_dim)
        self.decoder = _decoder(size, channels, latent_dim)

    def encode(self, x: Float[Tensor, "batch channel row column"]) -> Float[Tensor, "batch latent"]:
        """The latent of each picture."""
        return self.encoder(2 * x - 1).float()

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel row column"]:
        """The picture of each latent."""
        return self.decoder(z).float().sigmoid()

    def loss(
        self, z: Float[Tensor, "batch latent"], x: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, " batch"]:
        """−log Laplace(x | decode(z), 0.05) per picture, without its constant."""
        return (self.decode(z) - x).abs().flatten(1).sum(1) / SCALE


class ImageClassifier(Classifier):
    """What a picture shows."""

    def __init__(self, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.encoder = _encoder(size, channels, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(
        self, x: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, "batch feature"]:
        """The last hidden layer."""
        return F.silu(self.encoder(2 * x - 1)).float()

    def forward(
        self, x: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, "batch classes"]:
        """The logits over the classes."""
        return self.head(self.features(x)).float()


def _levels(size: int) -> tuple[list[int], list[int]]:
    """The side of each map from the picture down, and the channels of each below the picture."""
    sides = [size]
    while sides[-1] > _COARSEST:
        sides.append((sides[-1] + 1) // 2)
    widths = [min(_NARROWEST * 4**depth, _WIDEST) for depth in range(len(sides) - 1)]
    return sides, widths


def _encoder(size: int, channels: int, out: int) -> nn.Sequential:
    sides, widths = _levels(size)
    flat, hidden = widths[-1] * sides[-1] ** 2, max(_HIDDEN, out)
    layers: list[nn.Module] = []
    for wide, narrow in zip([channels, *widths], widths, strict=False):
        layers += [nn.Conv2d(wide, narrow, 3, stride=2, padding=1), *_active(narrow)]
    layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, out)]
    return nn.Sequential(*layers)


def _decoder(size: int, channels: int, latent_dim: int) -> nn.Sequential:
    sides, widths = _levels(size)
    flat, hidden = widths[-1] * sides[-1] ** 2, max(_HIDDEN, latent_dim)
    layers: list[nn.Module] = [nn.Linear(latent_dim, hidden), nn.SiLU(), nn.Linear(hidden, flat)]
    layers.append(nn.Unflatten(1, (widths[-1], sides[-1], sides[-1])))
    for depth in reversed(range(len(widths))):
        # The dense layer has seen to the neighbours in the coarsest map.
        kernel = 1 if depth == len(widths) - 1 else 3
        out = widths[depth - 1] if depth else channels
        layers += [*_active(widths[depth]), _Enlarge(widths[depth], out, kernel, sides[depth])]
    return nn.Sequential(*layers)


class _Enlarge(nn.Module):
    """Twice as many rows and columns: a convolution makes four channels, which become pixels.

    An odd side loses its last row and column, where the encoder's stride had rounded up.
    """

    def __init__(self, width: int, out: int, kernel: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.convolution = nn.Conv2d(width, 4 * out, kernel, padding=kernel // 2)

    def forward(
        self, x: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, "batch out side side"]:
        return F.pixel_shuffle(self.convolution(x), 2)[..., : self.side, : self.side]


def _active(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(width // _GROUP, width), nn.SiLU()
