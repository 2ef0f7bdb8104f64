"""How alike two sets of pictures are, row by row."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ROUNDING = 1 / (12 * 255**2)
"""The mean squared error of rounding to 8 bits; no written picture can be told to be better."""
BEST_PSNR = -10 * math.log10(ROUNDING)

_WINDOW = 11
_SPREAD = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_CHUNK = 64


def psnr(
    items: Float[Tensor, "row channel side side"], originals: Float[Tensor, "row channel side side"]
) -> float:
    """Peak signal-to-noise ratio in decibels, the mean over pictures.

    An error below that of rounding to 8 bits counts as that, so a perfect copy has a finite value.
    """
    _require_pairs(items, originals)
    error = (items.double() - originals.double()).square().flatten(1).mean(1)
    return (-10 * error.clamp(min=ROUNDING).log10()).mean().item()


def ssim(
    items: Float[Tensor, "row channel side side"], originals: Float[Tensor, "row channel side side"]
) -> float:
    """Mean structural similarity, over the channels, positions and pictures. (Wang et al. 2004.)

    The window is a Gaussian of 11 × 11 pixels with a standard deviation of 1.5, and only whole
    windows count; in a smaller picture it is the largest odd one that fits.
    """
    _require_pairs(items, originals)
    pairs = zip(items.split(_CHUNK), originals.split(_CHUNK), strict=True)
    return torch.cat([_similarity(x.double(), y.double()) for x, y in pairs]).mean().item()


def _similarity(
    x: Float[Tensor, "row channel side side"], y: Float[Tensor, "row channel side side"]
) -> Float[Tensor, " row"]:
    window = _gaussian(x.shape[-1]).to(x)
    moments = torch.stack([x, y, x * x, y * y, x * y])
    planes = moments.flatten(0, 2).unsqueeze(1)
    planes = F.conv2d(F.conv2d(planes, window[None, None, :, None]), window[None, None, None, :])
    mean_x, mean_y, xx, yy, xy = planes.reshape(*moments.shape[:3], *planes.shape[2:])
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    contrast_and_structure = (2 * (xy - mean_x * mean_y) + _C2) / (
        (xx - mean_x**2) + (yy - mean_y**2) + _C2
    )
    return (luminance * contrast_and_structure).flatten(1).mean(1)


def _gaussian(side: int) -> Float[Tensor, " tap"]:
    width = min(_WINDOW, side - 1 + side % 2)
    distance = torch.arange(width, dtype=torch.float64) - width // 2
    weight = torch.exp(-(distance**2) / (2 * _SPREAD**2))
    return weight / weight.sum()


def _require_pairs(items: Tensor, originals: Tensor) -> None:
    if len(items) == 0:
        raise ValueError("there are no pictures to compare")
    if items.shape != originals.shape:
        shapes = f"{tuple(items.shape)} and {tuple(originals.shape)}"
        raise ValueError(f"pictures are compared row by row, and theirs differ: {shapes}")
