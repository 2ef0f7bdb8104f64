"""Images of any mode and colour profile as 8-bit sRGB."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")

MAX_BITS_OF_LESS_DEPTH = 14
"""16-bit values that need no more bits than this were probably recorded with fewer bits."""
MIN_BRIGHTEST_LEVEL = 16
"""An 8-bit image whose brightest level is lower looks black."""

_MODES = {
    "RGB ": ("RGB", ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")),
    "GRAY": ("L", ("1", "L", "LA")),
    "CMYK": ("CMYK", ("CMYK",)),
    "Lab ": ("LAB", ("LAB",)),
}
"""The mode to which a profile of a colour space applies, and the modes that are converted to it."""


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in sRGB, 8 bits a channel, over a white background.

    A colour profile in the file is applied. Warns if it cannot be, and if the image is almost
    black, as of values in another range. ValueError if its values fit neither 8 nor 16 bits.
    """
    if image.mode == "F":
        raise ValueError("the image holds floating-point values: save it with 8 or 16 bits")
    if image.mode in SIXTEEN_BIT_MODES:
        return _to_eight_bits(image).convert("RGB")
    opaque = image
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        opaque = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    brightest = max(high for _, high in opaque.convert("RGB").getextrema())
    if 0 < brightest < MIN_BRIGHTEST_LEVEL:
        warnings.warn(
            f"the image is almost black, its brightest level is below {MIN_BRIGHTEST_LEVEL} of "
            "255: are its values of another range?",
            stacklevel=2,
        )
    profile = image.info.get("icc_profile")
    return _apply_profile(opaque, image.mode, profile) if profile else opaque.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit image with 8 bits; Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("the image holds values outside 0..65535: save it with 8 or 16 bits")
    bits = int(values.max()).bit_length()
    if 0 < bits <= MAX_BITS_OF_LESS_DEPTH:
        warnings.warn(
            f"the image uses only {bits} of its 16 bits and is dark: if it was recorded with "
            f"{bits} bits, multiply its values by {2 ** (16 - bits)}",
            stacklevel=3,
        )
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _apply_profile(image: Image.Image, file_mode: str, profile: bytes) -> Image.Image:
    """An opaque image in sRGB; as it is, with a warning, if the profile does not fit it.

    Args:
        file_mode: the image's mode in its file.
        profile: the bytes of an ICC profile.
    """
    try:
        mode, transform = _srgb_transform(profile, file_mode)
        converted = ImageCms.applyTransform(image.convert(mode), transform)
        assert converted is not None  # it is None only where the image is changed in place
        return converted
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"the colour profile of the image is ignored: {error}", stacklevel=3)
        return image.convert("RGB")


@lru_cache(maxsize=16)
def _srgb_transform(profile: bytes, file_mode: str) -> tuple[str, ImageCms.ImageCmsTransform]:
    """The transform of a profile to sRGB, and the mode to which it applies."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = source.profile.xcolor_space
    mode, file_modes = _MODES.get(space, ("", ()))
    if file_mode not in file_modes:
        raise ValueError(f"it is for {space.strip()}, but the image is {file_mode}")
    return mode, ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
