"""Variations of a picture that leave what it shows as it is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

TURN = math.radians(6)
"""Farthest rotation, either way."""
STRETCH = 0.06
"""Farthest change of width and of height, each its own, as a share."""
SHIFT = 0.04
"""Farthest shift across and down, as a share of the side."""


def varied(
    x: Float[Tensor, "batch channel row column"], generator: Generator
) -> Float[Tensor, "batch channel row column"]:
    """Each picture turned, stretched and shifted a little; its edge is continued outwards.

    Never mirrored: that makes another sign of a digit or a letter.
    """
    draws = torch.rand(5, len(x), generator=generator, device=generator.device).to(x)
    turn, wide, high, across, down = 2 * draws - 1
    cosine, sine = torch.cos(TURN * turn), torch.sin(TURN * turn)
    wide, high = 1 + STRETCH * wide, 1 + STRETCH * high
    # The grid spans [−1, 1]: a shift by a share of the side is twice that share.
    to_source = torch.stack(
        [
            torch.stack([cosine * wide, -sine * high, 2 * SHIFT * across], dim=1),
            torch.stack([sine * wide, cosine * high, 2 * SHIFT * down], dim=1),
        ],
        dim=1,
    )
    # Half precision would place pixels half a pixel off.
    with torch.autocast(x.device.type, enabled=False):
        grid = F.affine_grid(to_source, list(x.shape), align_corners=False)
        moved = F.grid_sample(x, grid, "bicubic", padding_mode="border", align_corners=False)
    return moved.clamp(0, 1)
