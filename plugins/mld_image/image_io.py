"""Files and PIL images to tensors, and back."""

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

_UNREACHABLE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_BROKEN = (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error)
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, upright as its EXIF orientation says; the first frame of a film.

    ValueError says why a file cannot be read.
    """
    try:
        with Image.open(path) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except _UNREACHABLE as error:
        raise ValueError(f"the file cannot be opened: {error.strerror}") from error
    except UnidentifiedImageError as error:
        raise ValueError("the file is no picture in a format that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the picture is too large to be safe: {error}") from error
    except _BROKEN as error:
        raise ValueError(f"the picture is truncated or corrupt: {error}") from error


def picture_to_tensor(
    picture: Any, size: int, channels: int
) -> Float[Tensor, "channel row column"]:
    """The middle square of a picture, brought to the wanted size; values in [0, 1].

    Transparent parts show white, as on a page. Values are multiples of 1/255, so that an item
    written to a file reads back as the same tensor.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    if not isinstance(picture, Image.Image):
        raise ValueError(f"an image's datum is a PIL image, not {type(picture).__name__}")
    if 0 in picture.size:
        raise ValueError("the picture has no pixels")
    plain = _plain(picture).convert("L" if channels == 1 else "RGB")
    square = transforms.center_crop(transforms.pil_to_tensor(plain), [min(plain.size)] * 2)
    scaled = transforms.resize(square, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return transforms.to_dtype(scaled, torch.float32, scale=True)


def tensor_to_picture(x: Float[Tensor, "channel row column"]) -> Image.Image:
    """The picture of an item, rounded to 8 bits."""
    from torchvision.transforms.v2.functional import to_pil_image

    levels = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return to_pil_image(levels.cpu())


def _plain(picture: Image.Image) -> Image.Image:
    """The picture in RGB with 8 bits a channel, its transparent parts on white."""
    if picture.mode == "F":
        raise ValueError("the picture holds floating-point values: save it with 8 or 16 bits")
    if picture.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _from_sixteen_bit(picture: Image.Image) -> Image.Image:
    """Pillow's own conversion clips at 255; this one scales."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("the picture holds values outside 0..65535: save it with 8 or 16 bits")
    return Image.fromarray((values / 257).round().astype(np.uint8)).convert("RGB")
