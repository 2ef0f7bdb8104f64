"""The autoencoder of images with a latent vector, and the classifier: small convolutional networks.

Strided convolutions reduce the side while the channels grow, and a dense hidden layer connects the
last feature map to the output. In images of more than 32 pixels a side, fine maps would cost most
of the arithmetic: there the first convolution quarters the side, and more is left to a wider dense
layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
_MAX_SMALL_SIZE = 32
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


@dataclass(frozen=True)
class _FeatureMaps:
    """The feature maps of an image, from the finest to the coarsest, and the dense layer's width.

    Args:
        sides: of the image and of each map, in pixels.
        factors: by which each map's side is smaller than the one above, rounded up.
        widths: channels of each map.
        hidden: units of the dense layer, at least.
    """

    sides: list[int]
    factors: list[int]
    widths: list[int]
    hidden: int


def _feature_maps(size: int) -> _FeatureMaps:
    is_small = size <= _MAX_SMALL_SIZE
    sides, factors = [size], list[int]()
    while sides[-1] > (4 if is_small else 8):
        factors.append(2 if is_small or factors else 4)
        sides.append(math.ceil(sides[-1] / factors[-1]))
    depths = range(len(factors))
    if is_small:
        return _FeatureMaps(sides, factors, [min(16 * 4**depth, 128) for depth in depths], 128)
    return _FeatureMaps(sides, factors, [max(64 >> depth, 16) for depth in reversed(depths)], 256)


def _build_encoder(size: int, channels: int, out: int) -> nn.Sequential:
    maps = _feature_maps(size)
    flat, hidden = maps.widths[-1] * maps.sides[-1] ** 2, max(maps.hidden, out)
    layers: list[nn.Module] = []
    widths = pairwise([channels, *maps.widths])
    for stride, (width_in, width_out) in zip(maps.factors, widths, strict=True):
        convolution = nn.Conv2d(width_in, width_out, stride + 1, stride, padding=stride // 2)
        layers += [convolution, *norm_act(width_out)]
    layers += [nn.Flatten(), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, out)]
    return nn.Sequential(*layers)


def _build_decoder(size: int, channels: int, latent_dim: int) -> nn.Sequential:
    maps = _feature_maps(size)
    sides, widths = maps.sides, maps.widths
    flat, hidden = widths[-1] * sides[-1] ** 2, max(maps.hidden, latent_dim)
    layers: list[nn.Module] = [nn.Linear(latent_dim, hidden), nn.SiLU(), nn.Linear(hidden, flat)]
    layers.append(nn.Unflatten(1, (widths[-1], sides[-1], sides[-1])))
    for depth in reversed(range(len(widths))):
        # The dense layer already mixes neighbouring pixels of the coarsest map.
        kernel = 1 if depth == len(widths) - 1 else 3
        out = widths[depth - 1] if depth else channels
        upsample = _Upsample(widths[depth], out, kernel, maps.factors[depth], sides[depth])
        layers += [*norm_act(widths[depth]), upsample]
    return nn.Sequential(*layers)


class _Upsample(nn.Module):
    """Multiply the side by a factor with a sub-pixel convolution, then crop to `side` pixels.

    Cropping removes the last rows and columns where the encoder's stride rounded the side up.
    """

    def __init__(self, width: int, out: int, kernel: int, factor: int, side: int) -> None:
        super().__init__()
        self.factor, self.side = factor, side
        self.convolution = nn.Conv2d(width, factor**2 * out, kernel, padding=kernel // 2)

    def forward(self, x: Images) -> Float[Tensor, "batch out side side"]:
        return F.pixel_shuffle(self.convolution(x), self.factor)[..., : self.side, : self.side]


def norm_act(width: int) -> tuple[nn.Module, nn.Module]:
    """Group normalisation, 16 channels a group, and SiLU."""
    return nn.GroupNorm(width // _CHANNELS_PER_GROUP, width), nn.SiLU()
