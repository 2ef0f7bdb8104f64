"""Settings of the modality `image`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from mld_core import LatentConfig, StructuredConfig

MAX_VECTOR_SIZE = 32
"""Largest side for which a first spec has a latent vector; larger images have a grid."""


class GridLatent(LatentConfig):
    """A grid of channels over the image."""

    channels: int = Field(
        default=4, ge=2, le=64, description="numbers at each position of the grid"
    )
    downsampling: Literal[8, 16] = Field(
        default=8, description="pixels on a side of the square that one position covers"
    )


class ImageConfig(StructuredConfig[GridLatent]):
    """Size of an image, and its latent: a vector, or a grid for larger images."""

    latent_dim: PositiveInt | None = Field(
        64, description="length of the latent vector of one image"
    )
    size: int = Field(32, ge=8, le=256, description="side of the square image, in pixels")
    channels: Literal[1, 3] = Field(3, description="1 for greyscale, 3 for colour (RGB)")

    def suggested_latent(self) -> GridLatent | None:
        """A grid for images of more than 32 pixels."""
        return None if self.size <= MAX_VECTOR_SIZE else GridLatent()

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.latent and (excess := self.size % (step := self.latent.downsampling)):
            lower, upper = self.size - excess, self.size - excess + step
            sizes = [str(size) for size in (lower, upper) if 8 <= size <= 256]
            raise ValueError(
                f"size = {self.size} is not a multiple of latent.downsampling = {step}: set size "
                f"to {' or '.join(sizes)}"
            )
        return self
