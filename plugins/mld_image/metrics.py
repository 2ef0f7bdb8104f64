"""Quality of images beside their originals: PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "row channel side side"]

ROUNDING_MSE = 1 / (12 * 255**2)
"""Mean squared error of rounding to 8 bits: the smallest that a stored image can show."""
BEST_PSNR = -10 * math.log10(ROUNDING_MSE)

_MAX_WINDOW = 11
_WINDOW_STD = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_NUMBERS_PER_CHUNK = 2**18
"""In the images that are compared at once, in float64 and with many copies."""


def psnr(items: Images, originals: Images) -> float:
    """Peak signal-to-noise ratio in decibels, averaged over images.

    A squared error below `ROUNDING_MSE` counts as that, so a perfect copy has a finite value.
    """
    return _mean_over_images(_psnr_per_row, items, originals)


def ssim(items: Images, originals: Images) -> float:
    """Structural similarity, averaged over channels, positions and images. (Wang et al. 2004.)

    The window is a Gaussian of 11 × 11 pixels with a standard deviation of 1.5, at the positions
    where it lies fully inside; in a smaller image it is the largest odd window that fits.
    """
    return _mean_over_images(_ssim_per_row, items, originals)


def _mean_over_images(
    per_row: Callable[[Images, Images], Float[Tensor, " row"]], items: Images, originals: Images
) -> float:
    """The mean of a function of pairs of images, some of which are in memory at once."""
    _check_pairs(items, originals)
    rows = max(1, _NUMBERS_PER_CHUNK // items[0].numel())
    chunks = zip(items.split(rows), originals.split(rows), strict=True)
    return torch.cat([per_row(x.double(), y.double()) for x, y in chunks]).mean().item()


def _psnr_per_row(x: Images, y: Images) -> Float[Tensor, " row"]:
    squared_error = (x - y).square().flatten(1).mean(1)
    return -10 * squared_error.clamp(min=ROUNDING_MSE).log10()


def _ssim_per_row(x: Images, y: Images) -> Float[Tensor, " row"]:
    width = min(_MAX_WINDOW, x.shape[-1] - 1 + x.shape[-1] % 2)
    distance = torch.arange(width, dtype=torch.float64) - width // 2
    window = torch.exp(-(distance**2) / (2 * _WINDOW_STD**2))
    window = (window / window.sum()).to(x)
    moments = torch.stack([x, y, x * x, y * y, x * y])
    planes = moments.flatten(0, 2).unsqueeze(1)
    planes = F.conv2d(F.conv2d(planes, window[None, None, :, None]), window[None, None, None, :])
    mean_x, mean_y, xx, yy, xy = planes.reshape(*moments.shape[:3], *planes.shape[2:])
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    contrast_and_structure = (2 * (xy - mean_x * mean_y) + _C2) / (
        (xx - mean_x**2) + (yy - mean_y**2) + _C2
    )
    similarity: Tensor = luminance * contrast_and_structure
    return similarity.flatten(1).mean(1)


def _check_pairs(items: Tensor, originals: Tensor) -> None:
    if len(items) == 0:
        raise ValueError("there are no images to compare")
    if items.shape != originals.shape:
        shapes = f"{tuple(items.shape)} and {tuple(originals.shape)}"
        raise ValueError(f"images are compared row by row, but their shapes differ: {shapes}")
