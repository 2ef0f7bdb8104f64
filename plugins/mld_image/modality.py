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
from mld_image.augment import varied
from mld_image.example_digits import draw_digits
from mld_image.image_io import picture_to_tensor, read_picture, tensor_to_picture
from mld_image.metrics import BEST_PSNR, psnr, ssim
from mld_image.networks import ImageAutoencoder, ImageClassifier


class ImageConfig(ModalityConfig):
    """What a spec may say about pictures."""

    latent_dim: PositiveInt = Field(64, description="numbers in the latent of one picture")
    size: int = Field(32, ge=8, le=256, description="side of the square picture, in pixels")
    channels: Literal[1, 3] = Field(3, description="1 for grey, 3 for colour")


class ImageModality(Modality):
    """Square pictures, grey or in colour.

    `raw` is a PIL image of any size and mode: its middle square is brought to the wanted size,
    transparent parts on white. `x` is float32, (channels, size, size), in [0, 1].
    """

    kind = "image"
    Config = ImageConfig
    config: ImageConfig

    def read(self, source: Path | str) -> Image.Image:
        """The picture in a file that Pillow can open, upright."""
        return read_picture(Path(source))

    def preprocess(self, raw: Any) -> Float[Tensor, "channel row column"]:
        """The picture as a tensor in [0, 1], rounded to 8 bits."""
        return picture_to_tensor(raw, self.config.size, self.config.channels)

    def augment(
        self, x: Float[Tensor, "batch channel row column"], generator: Generator
    ) -> Float[Tensor, "batch channel row column"]:
        """Each picture turned, stretched and shifted a little, never mirrored."""
        return varied(x, generator)

    def autoencoder(self) -> ImageAutoencoder:
        """A convolutional autoencoder whose depth follows the size."""
        config = self.config
        return ImageAutoencoder(config.latent_dim, config.size, config.channels)

    def classifier(self, classes: int) -> ImageClassifier:
        """A convolutional classifier with 64 features."""
        return ImageClassifier(classes, self.config.size, self.config.channels)

    def metrics(self) -> Mapping[str, Metric]:
        """How near reconstructions are to their originals."""
        return {
            "psnr": Metric(psnr, "originals", "higher", best=BEST_PSNR, unit="dB"),
            "ssim": Metric(ssim, "originals", "higher", best=1.0),
        }

    def write(self, x: Float[Tensor, "channel row column"], stem: Path) -> Path:
        """A PNG file, 8 bits a channel."""
        path = stem.with_name(f"{stem.name}.png")
        tensor_to_picture(x).save(path)
        return path

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Image.Image]:
        """Real handwritten digits, grey, 32 × 32 pixels."""
        return draw_digits(labels, split, rng)
