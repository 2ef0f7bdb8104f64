"""The autoencoder and the classifier of images: small convolutional networks.

Strided convolutions halve the side until it is at most four pixels, while the channels grow by a
factor of four up to 128. A dense hidden layer then connects the last feature map to the output.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mld_core import Autoencoder, Classifier

Images = Float[Tensor, "batch channel row column"]
Latents = Float[Tensor, "batch latent"]

FEATURE_DIM = 64
"""Width of the classifier's features."""
LAPLACE_SCALE = 0.05
"""Scale of the Laplace distribution of a pixel around its reconstruction."""
_MAX_COARSEST_SIDE = 4
_HIDDEN_WIDTH = 128
_MIN_CHANNELS, _MAX_CHANNELS = 16, 128
_CHANNELS_PER_GROUP = 16


class ImageAutoencoder(Autoencoder):
    """Convolutional autoencoder with a Laplace likelihood; pixels lie in [0, 1].

    Latents are not regularised: on digits, training with noisy latents made reconstructions worse
    and decoding of neighbouring latents no better.
    """

    def __init__(self, latent_dim: int, size: int, channels: int) -> None:
        super().__init__()
        self.encoder = _build_encoder(size, channels, latent_dim)
        self.decoder = _build_decoder(size, channels, latent_dim)

    def encode(self, x: Images) -> Latents:
        """The latent of each image."""
        z: Tensor = self.encoder(2 * x - 1)
        return z.float()

    def decode(self, z: Latents) -> Images:
        """The image of each latent."""
        logits: Tensor = self.decoder(z)
        return logits.float().sigmoid()

    def loss(self, z: Latents, x: Images) -> Float[Tensor, " batch"]:
        """−log Laplace(x | decode(z), 0.05) per image, without its constant."""
        return (self.decode(z) - x).abs().flatten(1).sum(1) / LAPLACE_SCALE


class ImageClassifier(Classifier):
    """Convolutional classifier; its features are the last hidden layer."""

    def __init__(self, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.encoder = _build_encoder(size, channels, FEATURE_DIM)
        self.head = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Images) -> Float[Tensor, "batch feature"]:
        """The 64 activations of the last hidden layer."""
        return F.silu(self.encoder(2 * x - 1)).float()

    def forward(self, x: Images) -> Float[Tensor, "batch classes"]:
        """The logits over the classes."""
        logits: Tensor = self.head(self.features(x))
        return logits.float()


def _feature_maps(size: int) -> tuple[list[int], list[int]]:
    """The side of each map from the image down, and the channels of each below the image."""
    sides = [size]
    while sides[-1] > _MAX_COARSEST_SIDE:
        sides.append((sides[-1] + 1) // 2)
    widths = [min(_MIN_CHANNELS * 4**depth, _MAX_CHANNELS) for depth in range(len(sides) - 1)]
    return sides, widths


def _build_encoder(size: int, channels: int, out: int) -> nn.Sequential:
    sides, widths = _feature_maps(size)
    flat, hidden = widths[-1] * sides[-1] ** 2, max(_HIDDEN_WIDTH, out)
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise([channels, *widths]):
        layers += [nn.Conv2d(width_in, width_out, 3, stride=2, padding=1), *_norm_act(width_out)]
    layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, out)]
    return nn.Sequential(*layers)


def _build_decoder(size: int, channels: int, latent_dim: int) -> nn.Sequential:
    sides, widths = _feature_maps(size)
    flat, hidden = widths[-1] * sides[-1] ** 2, max(_HIDDEN_WIDTH, latent_dim)
    layers: list[nn.Module] = [nn.Linear(latent_dim, hidden), nn.SiLU(), nn.Linear(hidden, flat)]
    layers.append(nn.Unflatten(1, (widths[-1], sides[-1], sides[-1])))
    for depth in reversed(range(len(widths))):
        # The dense layer already mixes neighbouring pixels of the coarsest map.
        kernel = 1 if depth == len(widths) - 1 else 3
        out = widths[depth - 1] if depth else channels
        layers += [*_norm_act(widths[depth]), _Upsample(widths[depth], out, kernel, sides[depth])]
    return nn.Sequential(*layers)


class _Upsample(nn.Module):
    """Double the side by sub-pixel convolution, then crop to `side` pixels.

    Cropping removes the last row and column of an odd side, which the encoder's stride rounded up.
    """

    def __init__(self, width: int, out: int, kernel: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.convolution = nn.Conv2d(width, 4 * out, kernel, padding=kernel // 2)

    def forward(self, x: Images) -> Float[Tensor, "batch out side side"]:
        return F.pixel_shuffle(self.convolution(x), 2)[..., : self.side, : self.side]


def _norm_act(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(width // _CHANNELS_PER_GROUP, width), nn.SiLU()
