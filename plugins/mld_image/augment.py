"""Data augmentation of images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator

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
    draws = torch.rand(5, len(x), generator=generator, device=generator.device).to(x)
    rotation, stretch_x, stretch_y, shift_x, shift_y = 2 * draws - 1
    cosine, sine = torch.cos(MAX_ROTATION * rotation), torch.sin(MAX_ROTATION * rotation)
    scale_x, scale_y = 1 + MAX_STRETCH * stretch_x, 1 + MAX_STRETCH * stretch_y
    # The grid spans [−1, 1], so a shift by a fraction of the side is twice that fraction.
    x_row = torch.stack([cosine * scale_x, -sine * scale_y, 2 * MAX_SHIFT * shift_x], dim=1)
    y_row = torch.stack([sine * scale_x, cosine * scale_y, 2 * MAX_SHIFT * shift_y], dim=1)
    output_to_input = torch.stack([x_row, y_row], dim=1)
    # In half precision, coordinates would be off by half a pixel.
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(output_to_input, list(x.shape), align_corners=False)
        warped = F.grid_sample(x, grid, "bicubic", padding_mode="border", align_corners=False)
    return warped.clamp(0, 1)
