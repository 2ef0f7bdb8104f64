"""Change of a waveform's sample rate, at a cost that no pair of rates makes large."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt

import torch
from torch import Tensor
from torchaudio.transforms import Resample

from mld_audio.spectrum import Waveform

MAX_RATIO_PRODUCT = 2**20
"""Largest product of the two terms of a ratio of rates, to which its filter's size is proportional.

The ratios of all usual rates are exact. Others, such as 44,099 : 8,000, become the nearest ratio
within this product, which changes pitch and length by at most 0.05 % (a hundredth of a semitone).
"""


def resample(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """The waveform at another rate, both in Hz."""
    resampled: Tensor = _resampler(source_rate, target_rate)(waveform)
    return resampled


@lru_cache(maxsize=16)
def _resampler(source_rate: int, target_rate: int) -> Resample:
    ratio = nearest_ratio(source_rate, target_rate)
    return Resample(ratio.numerator, ratio.denominator, dtype=torch.float32)


def nearest_ratio(source_rate: int, target_rate: int) -> Fraction:
    """source_rate / target_rate, or the nearest ratio within `MAX_RATIO_PRODUCT`."""
    low, high = sorted((source_rate, target_rate))
    nearest = Fraction(low, high).limit_denominator(isqrt(MAX_RATIO_PRODUCT * high // low))
    return nearest if source_rate == low else 1 / nearest
