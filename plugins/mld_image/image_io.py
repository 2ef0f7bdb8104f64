"""Conversion between image files, PIL images and tensors."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

_OPEN_ERRORS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_DECODE_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error)
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: Path) -> Image.Image:
    """The image in a file, rotated as its EXIF orientation says; an animation's first frame.

    Raises ValueError with the reason if the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except _OPEN_ERRORS as error:
        raise ValueError(f"the file cannot be opened: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise ValueError("the file is not an image in a format that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the image is too large to be read safely: {error}") from error
    except _DECODE_ERRORS as error:
        raise ValueError(f"the image is truncated or corrupt: {error}") from error


def image_to_tensor(raw: Any, size: int, channels: int) -> Float[Tensor, "channel row column"]:
    """The centre square of a PIL image, resized to `size` pixels a side; values in [0, 1].

    Transparent parts become white. Values are multiples of 1/255, so that an item written to a
    file reads back as the same tensor.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    if not isinstance(raw, Image.Image):
        raise ValueError(f"expected a PIL image, got {type(raw).__name__}")
    if 0 in raw.size:
        raise ValueError("the image has no pixels")
    converted = _to_rgb(raw).convert("L" if channels == 1 else "RGB")
    square = transforms.center_crop(transforms.pil_to_tensor(converted), [min(converted.size)] * 2)
    resized = transforms.resize(square, [size, size], InterpolationMode.BICUBIC, antialias=True)
    x: Tensor = transforms.to_dtype(resized, torch.float32, scale=True)
    return x


def tensor_to_image(x: Float[Tensor, "channel row column"]) -> Image.Image:
    """An item as a PIL image, rounded to 8 bits."""
    from torchvision.transforms.v2.functional import to_pil_image

    levels = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    image: Image.Image = to_pil_image(levels.cpu())
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel, over a white background."""
    if image.mode == "F":
        raise ValueError("the image holds floating-point values: save it with 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT_MODES:
        return _scale_to_eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _scale_to_eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit image in RGB with 8 bits a channel; Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("the image holds values outside 0..65535: save it with 8 or 16 bits")
    return Image.fromarray((values / 257).round().astype(np.uint8)).convert("RGB")
