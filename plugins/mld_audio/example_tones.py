"""Example data of the modality `audio`: the digits of a telephone keypad (ITU-T Q.23, DTMF)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mld_core import SPLITS, SplitName

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477)
"""Frequencies in Hz; a key sounds the tone of its row and that of its column."""
SAMPLE_RATE = 8000

_RAMP_SECONDS = 0.005


def sample_tones(
    labels: Sequence[int], split: SplitName, seconds: float, rng: np.random.Generator
) -> list[tuple[np.ndarray, int]]:
    """One recording of a key press per label: waveform and sample rate.

    The split is part of the seed, so that splits share no sound even if their `rng` is the same.
    """
    seed = [SPLITS.index(split), *rng.integers(2**32, size=4)]
    split_rng = np.random.default_rng(seed)
    return [(dtmf_tone(int(label), seconds, split_rng), SAMPLE_RATE) for label in labels]


def dtmf_frequencies(digit: int) -> tuple[int, int]:
    """Row and column frequency of a digit on the keypad 1 2 3 / 4 5 6 / 7 8 9 / * 0 #."""
    if digit not in range(10):
        raise ValueError(f"the keypad has digits 0 to 9, not {digit}")
    row, column = divmod(10 if digit == 0 else digit - 1, 3)
    return ROWS[row], COLUMNS[column]


def dtmf_tone(digit: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A recording of a digit being pressed, at 8 kHz: float32 in [−1, 1].

    Random: the onset and length of the press, its level (over 18 dB), the level of one tone
    relative to the other (twist, up to 4 dB either way), both phases, and the background noise.
    """
    samples = round(seconds * SAMPLE_RATE)
    onset = rng.uniform(0.0, 0.25) * seconds
    length = rng.uniform(0.45, 0.75) * seconds
    level = 10 ** (rng.uniform(-27, -9) / 20)
    twist = 10 ** (rng.uniform(-4, 4) / 40)
    noise = level * 10 ** (rng.uniform(-45, -20) / 20)

    time = np.arange(samples) / SAMPLE_RATE - onset
    row, column = (
        np.sin(2 * np.pi * (frequency * time + rng.random()))
        for frequency in dtmf_frequencies(digit)
    )
    envelope = np.clip(np.minimum(time, length - time) / _RAMP_SECONDS, 0, 1)
    waveform = envelope * level * (row * twist + column / twist)
    waveform += noise * rng.standard_normal(samples)
    return np.clip(waveform, -1, 1).astype(np.float32)
