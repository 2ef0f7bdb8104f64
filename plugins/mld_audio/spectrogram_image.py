"""Rendering of a spectrogram as an image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

_SIZE = (256, 144)
_COLOURS = np.array(
    [(8, 10, 28), (38, 28, 94), (18, 98, 134), (34, 166, 128), (246, 196, 84), (255, 250, 226)]
)
"""Colour map from silence to the loudest: dark blue, indigo, teal, green, amber, cream."""


def render_spectrogram(x: Float[Tensor, "mel frame"]) -> Image.Image:
    """Time runs from left to right, pitch from bottom to top; loudness is brightness."""
    bands = np.ascontiguousarray(x.float().cpu().numpy()[::-1])
    resized = np.asarray(Image.fromarray(bands).resize(_SIZE, Image.Resampling.BICUBIC))
    image = Image.fromarray(((resized.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8))
    image.putpalette(_palette())
    return image


def _palette() -> list[int]:
    levels = np.linspace(0, len(_COLOURS) - 1, 256)
    stops = np.arange(len(_COLOURS))
    channels = [np.interp(levels, stops, channel) for channel in _COLOURS.T]
    return np.stack(channels, axis=1).round().astype(int).flatten().tolist()
