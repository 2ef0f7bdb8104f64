"""Data augmentation of log-mel spectrograms."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mld_audio.spectrum import DECIBELS_PER_UNIT, Spectrograms

MAX_SHIFT = 1 / 16
"""Largest shift in time in either direction, as a fraction of the item."""
MAX_GAIN = 6 / DECIBELS_PER_UNIT
"""Largest change of loudness in either direction: 6 dB."""
NOISE_STD = 2 / DECIBELS_PER_UNIT
"""Standard deviation of the noise on each value: 2 dB."""
MAX_GAP = 1 / 8
"""Longest silence inserted into an item, as a fraction of the item."""


def augment_spectrogram(x: Spectrograms, generator: Generator) -> Spectrograms:
    """Random shift in time, change of loudness, noise, and a short gap, drawn for each item.

    The pitch is not changed and no band is masked, because pitch may carry the label.
    """
    batch, _, frames = x.shape

    def uniform(low: float, high: float) -> Float[Tensor, "batch 1 1"]:
        draw = torch.rand(batch, 1, 1, generator=generator, device=x.device)
        return low + (high - low) * draw

    frame = torch.arange(frames, device=x.device)
    source = frame - (uniform(-MAX_SHIFT, MAX_SHIFT) * frames).round().long()
    shifted = x.gather(2, source.clamp(0, frames - 1).expand_as(x))

    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    noisy = shifted + uniform(-MAX_GAIN, MAX_GAIN) + NOISE_STD * noise

    since_gap = frame - uniform(-MAX_GAP, 1) * frames
    in_gap = (since_gap >= 0) & (since_gap < uniform(0, MAX_GAP) * frames)
    outside = (source < 0) | (source >= frames)
    return noisy.clamp(-1, 1).masked_fill(in_gap | outside | (shifted <= -1), -1.0)
