"""Data augmentation of images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from mld_image.networks import Images

MAX_ROTATION = math.radians(6)
"""Largest rotation in either direction, in radians."""
MAX_STRETCH = 0.06
"""Largest relative change of width and of height, drawn independently."""
MAX_SHIFT = 0.04
"""Largest horizontal and vertical shift, as a fraction of the side."""


def random_affine(x: Images, generator: Generator) -> Images:
    """Each image slightly rotated, stretched and shifted, at random; edge pixels are repeated.

    Images are never mirrored, because that turns a digit or a letter into another sign.
    """
    draws = torch.rand(5, len(x), 1, 1, generator=generator, device=generator.device).to(x)
    rotation, stretch_x, stretch_y, shift_x, shift_y = 2 * draws - 1
    cosine, sine = torch.cos(MAX_ROTATION * rotation), torch.sin(MAX_ROTATION * rotation)
    scale_x, scale_y = 1 + MAX_STRETCH * stretch_x, 1 + MAX_STRETCH * stretch_y
    # The grid spans [−1, 1], so a shift by a fraction of the side is twice that fraction.
    # F.affine_grid computes the same, but its batched product of tiny matrices is slow on a CPU.
    columns, rows = _pixel_centres(x.shape[-1], x), _pixel_centres(x.shape[-2], x)[:, None]
    grid_x = cosine * scale_x * columns - sine * scale_y * rows + 2 * MAX_SHIFT * shift_x
    grid_y = sine * scale_x * columns + cosine * scale_y * rows + 2 * MAX_SHIFT * shift_y
    grid = torch.stack([grid_x, grid_y], dim=-1)
    warped = F.grid_sample(x, grid, "bicubic", padding_mode="border", align_corners=False)
    return warped.clamp(0, 1)


def _pixel_centres(side: int, like: Tensor) -> Float[Tensor, " side"]:
    """The coordinates of a row of pixels on a side that spans [−1, 1]."""
    return (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) * (2 / side) - 1
