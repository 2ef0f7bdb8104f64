"""The modality `image`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from mld_core import Autoencoder, MediaType, Metric, Modality, SplitName
from mld_image.augment import random_affine
from mld_image.colours import to_rgb
from mld_image.config import ImageConfig
from mld_image.example_digits import sample_digits
from mld_image.grid_networks import GridAutoencoder
from mld_image.image_file import read_image
from mld_image.metrics import BEST_PSNR, psnr, ssim
from mld_image.networks import ImageAutoencoder, ImageClassifier, Images

Item = Float[Tensor, "channel row column"]


class ImageModality(Modality):
    """Square images, in greyscale or colour.

    `raw` is a PIL image of any size, mode and colour profile; its centre square is resized, and
    transparent parts become white. An item is a float32 tensor of shape (channels, size, size) with
    values in [0, 1]. The latent is the unconstrained output of a convolutional encoder, of shape
    (latent_dim,); or with `latent` a grid of shape (latent.channels, size / latent.downsampling,
    size / latent.downsampling), whose positions are points on a sphere.
    """

    kind = "image"
    Config = ImageConfig
    media_type: MediaType = "picture"
    config: ImageConfig

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,) of a vector, or (channels, rows, columns) of a grid."""
        if self.config.latent is None:
            return super().latent_shape
        side = self.config.size // self.config.latent.downsampling
        return (self.config.latent.channels, side, side)

    def read(self, source: Path | str) -> Image.Image:
        """The image in a file that Pillow can open, rotated as its EXIF orientation says.

        An animation's first frame. ValueError with the reason if the file cannot be read.
        """
        return read_image(source)

    def profile(self, raw: Image.Image) -> Mapping[str, int]:
        """Its size in pixels."""
        return {"width": raw.width, "height": raw.height}

    def preprocess(self, raw: Any) -> Item:
        """The image as a tensor in [0, 1], in the colours of sRGB.

        Values are multiples of 1/255, so that an item written to a file reads back as the same
        tensor.
        """
        if not isinstance(raw, Image.Image):
            raise ValueError(f"expected a PIL image, got {type(raw).__name__}")
        if 0 in raw.size:
            raise ValueError("the image has no pixels")
        mode = "L" if self.config.channels == 1 else "RGB"
        levels = np.array(to_rgb(_centre_square(raw)).convert(mode))
        pixels = torch.from_numpy(levels).view(*levels.shape[:2], -1).permute(2, 0, 1)
        # On 8-bit levels, which it rounds and clamps.
        resized = interpolate(pixels[None], self.config.size, mode="bicubic", antialias=True)
        return _intensities(resized[0])

    def pack(self, x: Images) -> UInt8[Tensor, "batch channel row column"]:
        """The 8-bit levels of each pixel, a quarter of the bytes."""
        return _levels(x)

    def unpack(self, packed: UInt8[Tensor, "batch channel row column"]) -> Images:
        """Levels as values in [0, 1]."""
        return _intensities(packed)

    def augment(self, x: Images, generator: Generator) -> Images:
        """Small random rotations, stretches and shifts; no mirroring."""
        return random_affine(x, generator)

    def autoencoder(self) -> Autoencoder:
        """A new convolutional autoencoder, whose depth follows from the size and the latent."""
        config = self.config
        if config.latent is None:
            return ImageAutoencoder(self.latent_dim, config.size, config.channels)
        return GridAutoencoder(config.latent, config.size, config.channels)

    def classifier(self, classes: int) -> ImageClassifier:
        """A new convolutional classifier with 64 features."""
        return ImageClassifier(classes, self.config.size, self.config.channels)

    def metrics(self) -> Mapping[str, Metric]:
        """PSNR of reconstructions and conditional samples; SSIM of reconstructions."""
        return {
            "psnr": Metric(psnr, "truth", "higher", best=BEST_PSNR, unit="dB", bounds=(0.0, None)),
            "ssim": Metric(ssim, "originals", "higher", best=1.0),
        }

    def write(self, x: Item, stem: Path) -> Path:
        """Write a PNG file with 8 bits a channel."""
        path = stem.with_name(f"{stem.name}.png")
        # Without the channel axis if there is one channel.
        Image.fromarray(_levels(x.detach()).cpu().movedim(0, -1).squeeze(-1).numpy()).save(path)
        return path

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Image.Image]:
        """Real handwritten digits, in greyscale, 32 × 32 pixels."""
        return sample_digits(labels, split, rng)


def _levels(x: Float[Tensor, "*image"]) -> UInt8[Tensor, "*image"]:
    """The nearest 8-bit level of each value in [0, 1]."""
    return (x.float().clamp(0, 1) * 255).round().to(torch.uint8)


def _intensities(levels: UInt8[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """8-bit levels as values in [0, 1]."""
    return levels.to(torch.float32) * (1 / 255)


def _centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (round((length - side) / 2) for length in image.size)
    return image.crop((left, top, left + side, top + side))
