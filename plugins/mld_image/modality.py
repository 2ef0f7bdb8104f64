"""The modality `image`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Generator, Tensor

from mld_core import Metric, Modality, ModalityConfig, SplitName
from mld_image.augment import random_affine
from mld_image.example_digits import sample_digits
from mld_image.image_io import image_to_tensor, read_image, tensor_to_image
from mld_image.metrics import BEST_PSNR, psnr, ssim
from mld_image.networks import ImageAutoencoder, ImageClassifier, Images

Item = Float[Tensor, "channel row column"]


class ImageConfig(ModalityConfig):
    """Settings of the modality `image`."""

    latent_dim: PositiveInt = Field(64, description="length of the latent vector of one image")
    size: int = Field(32, ge=8, le=256, description="side of the square image, in pixels")
    channels: Literal[1, 3] = Field(3, description="1 for greyscale, 3 for colour (RGB)")


class ImageModality(Modality):
    """Square images, in greyscale or colour.

    `raw` is a PIL image of any size and mode; its centre square is resized, and transparent parts
    become white. An item is a float32 tensor of shape (channels, size, size) with values in [0, 1].
    The latent is the unconstrained output of a convolutional encoder, of shape (latent_dim,).
    """

    kind = "image"
    Config = ImageConfig
    config: ImageConfig

    def read(self, source: Path | str) -> Image.Image:
        """The image in a file that Pillow can open, rotated upright."""
        return read_image(Path(source))

    def preprocess(self, raw: Any) -> Item:
        """The image as a tensor in [0, 1], rounded to 8 bits."""
        return image_to_tensor(raw, self.config.size, self.config.channels)

    def augment(self, x: Images, generator: Generator) -> Images:
        """Small random rotations, stretches and shifts; no mirroring."""
        return random_affine(x, generator)

    def autoencoder(self) -> ImageAutoencoder:
        """A new convolutional autoencoder, whose depth follows from the image size."""
        config = self.config
        return ImageAutoencoder(config.latent_dim, config.size, config.channels)

    def classifier(self, classes: int) -> ImageClassifier:
        """A new convolutional classifier with 64 features."""
        return ImageClassifier(classes, self.config.size, self.config.channels)

    def metrics(self) -> Mapping[str, Metric]:
        """PSNR and SSIM of reconstructions."""
        return {
            "psnr": Metric(psnr, "originals", "higher", best=BEST_PSNR, unit="dB"),
            "ssim": Metric(ssim, "originals", "higher", best=1.0),
        }

    def write(self, x: Item, stem: Path) -> Path:
        """Write a PNG file with 8 bits a channel."""
        path = stem.with_name(f"{stem.name}.png")
        tensor_to_image(x).save(path)
        return path

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Image.Image]:
        """Real handwritten digits, in greyscale, 32 × 32 pixels."""
        return sample_digits(labels, split, rng)
