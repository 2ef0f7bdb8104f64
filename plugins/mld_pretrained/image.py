"""The modality `pretrained-image`: pictures with an autoencoder of the library diffusers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, JsonValue
from torch import Generator, Tensor

from mld_core import DataError, Modality, ModalityConfig, SpecError, hookimpl, require_library
from mld_image import ImageConfig, ImageModality
from mld_pretrained.config import PretrainedConfig
from mld_pretrained.modality import (
    PretrainedAutoencoder,
    PretrainedModality,
    Shape,
    laplace_loss,
)
from mld_pretrained.weights import DIFFUSERS_FILES, PretrainedFiles, find_files

require_library("diffusers")

Images = Float[Tensor, "batch channel row column"]
Grids = Float[Tensor, "batch latent_channel latent_row latent_column"]

ENCODERS: dict[str, Callable[[Any, Images], Grids]] = {
    "AutoencoderKL": lambda model, x: model.encode(x).latent_dist.mode(),
    "AutoencoderDC": lambda model, x: model.encode(x).latent,
    "AutoencoderTiny": lambda model, x: model.encode(x).latents,
}
"""By class of diffusers, the latents of pictures in [−1, 1]; of a distribution, its mode."""


class PretrainedImageConfig(PretrainedConfig):
    """Settings of the modality `pretrained-image`."""

    size: int = Field(256, ge=8, le=256, description="side of the square image, in pixels")
    channels: Literal[1, 3] = Field(3, description="1 for greyscale, 3 for colour (RGB)")


class ImageAutoencoder(PretrainedAutoencoder):
    """An autoencoder of diffusers; pixels lie in [0, 1], for the model in [−1, 1]."""

    def __init__(self, files: PretrainedFiles, latent_shape: Shape = ()) -> None:
        import diffusers

        self.class_name = _class_name(files)
        model_class = getattr(diffusers, self.class_name)
        model = files.load(
            model_class.from_pretrained, use_safetensors=True, low_cpu_mem_usage=False
        )
        super().__init__(model, files.reference(), latent_shape)

    def latents(self, x: Images) -> Grids:
        """A grid per picture."""
        return ENCODERS[self.class_name](self.model, 2 * x - 1)

    def items(self, z: Grids) -> Images:
        """The picture of each grid."""
        return self._decoded(z).clamp(0, 1)

    def loss(self, z: Float[Tensor, "batch latent"], x: Images) -> Float[Tensor, " batch"]:
        """−log Laplace(x | decode(z), 0.05) per picture, without its constant."""
        return laplace_loss(self._decoded(z.unflatten(1, self.latent_shape)), x)

    def _decoded(self, z: Grids) -> Images:
        decoded: Tensor = self.model.decode(z).sample
        return (decoded.float() + 1) / 2


class PretrainedImage(PretrainedModality):
    """Square images, in greyscale or colour, with a pretrained autoencoder of diffusers.

    `raw` and items are those of the kind `image`. The latent is a grid (channels, rows, columns),
    as an AutoencoderKL, AutoencoderDC or AutoencoderTiny gives it; of a distribution its mode.
    """

    kind = "pretrained-image"
    Config = PretrainedImageConfig
    config: PretrainedImageConfig

    def base_modality(self) -> ImageModality:
        """The kind `image` of the same size."""
        settings = {"size": self.config.size, "channels": self.config.channels}
        return ImageModality(ImageConfig.model_validate(settings))

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """The shape of the latent. SpecError if the model does not fit size and channels."""
        assert isinstance(config, PretrainedImageConfig)
        autoencoder = ImageAutoencoder(find_files(config, DIFFUSERS_FILES))
        channels, size = autoencoder.model.config.in_channels, config.size
        if channels != config.channels:
            raise SpecError(f"channels: the pretrained model has {channels}, not {config.channels}")
        with torch.no_grad():
            z = autoencoder.latents(torch.zeros(1, channels, size, size))
            decoded = autoencoder.items(z).shape[-1]
        if decoded != size:
            factor = decoded // z.shape[-1]
            raise SpecError(f"size: the pretrained model needs a multiple of {factor}, not {size}")
        return {"latent_shape": [*z.shape[1:]]}

    def autoencoder(self) -> ImageAutoencoder:
        """The pretrained autoencoder."""
        return ImageAutoencoder(find_files(self.config, DIFFUSERS_FILES), self.latent_shape)

    def augment(self, x: Images, generator: Generator) -> Images:
        """Small random rotations, stretches and shifts, for the classifier."""
        return self.base.augment(x, generator)


def _class_name(files: PretrainedFiles) -> str:
    """The model's class. DataError if it is none of those supported."""
    path = files.folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no configuration of a model of diffusers") from error
    if name not in ENCODERS:
        raise DataError(f"{path}: the model is {name}, but must be one of {', '.join(ENCODERS)}")
    return str(name)


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [PretrainedImage]
