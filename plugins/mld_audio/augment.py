"""Variations of a log-mel spectrogram that leave what it says as it is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mld_audio.spectrum import DECIBELS_PER_UNIT

SHIFT = 1 / 16
"""Farthest shift in time, either way, as a share of the item."""
GAIN = 6 / DECIBELS_PER_UNIT
"""Farthest change of loudness, either way: 6 dB."""
JITTER = 2 / DECIBELS_PER_UNIT
"""Standard deviation of the noise on each point: 2 dB."""
MASK = 1 / 8
"""Longest silence cut into an item, as a share of it."""


def varied(
    x: Float[Tensor, "batch mel frame"], generator: Generator
) -> Float[Tensor, "batch mel frame"]:
    """Each item a little sooner or later, louder or softer, noisier, and with a gap in it.

    Never higher or lower, and no band is masked: pitch may be what tells sounds apart.
    """
    batch, _, frames = x.shape

    def uniform(low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        draw = torch.rand(batch, 1, 1, generator=generator, device=x.device)
        return low + (high - low) * draw

    frame = torch.arange(frames, device=x.device)
    source = frame - (uniform(-SHIFT, SHIFT) * frames).round().long()
    moved = x.gather(2, source.clamp(0, frames - 1).expand_as(x))

    jitter = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    louder = moved + uniform(-GAIN, GAIN) + JITTER * jitter

    since_gap = frame - uniform(-MASK, 1) * frames
    silent = (since_gap >= 0) & (since_gap < uniform(0, MASK) * frames)
    beyond = (source < 0) | (source >= frames)
    return louder.clamp(-1, 1).masked_fill(silent | beyond | (moved <= -1), -1.0)
