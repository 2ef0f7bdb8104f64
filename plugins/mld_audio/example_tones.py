"""The sounds of a telephone's keypad: ITU-T recommendation Q.23, its digits."""

from __future__ import annotations

import numpy as np

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477)
"""Hz; each key sounds the tone of its row and that of its column."""
SAMPLE_RATE = 8000

_RAMP_SECONDS = 0.005


def frequencies(digit: int) -> tuple[int, int]:
    """The row's and the column's frequency of a digit: 1 2 3 / 4 5 6 / 7 8 9 / * 0 #."""
    if digit not in range(10):
        raise ValueError(f"the keypad has digits 0 to 9, not {digit}")
    row, column = divmod(10 if digit == 0 else digit - 1, 3)
    return ROWS[row], COLUMNS[column]


def press_key(digit: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A recording of a digit being pressed, at 8 kHz: float32 in [−1, 1].

    What varies: when it is pressed and for how long, how loud (18 dB), the level of one tone
    against the other (twist, up to 4 dB either way), both phases, and the noise behind it.
    """
    samples = round(seconds * SAMPLE_RATE)
    onset = rng.uniform(0.0, 0.25) * seconds
    length = rng.uniform(0.45, 0.75) * seconds
    level = 10 ** (rng.uniform(-27, -9) / 20)
    twist = 10 ** (rng.uniform(-4, 4) / 40)
    noise = level * 10 ** (rng.uniform(-45, -20) / 20)

    time = np.arange(samples) / SAMPLE_RATE - onset
    row, column = (
        np.sin(2 * np.pi * (frequency * time + rng.random())) for frequency in frequencies(digit)
    )
    envelope = np.clip(np.minimum(time, length - time) / _RAMP_SECONDS, 0, 1)
    waveform = envelope * level * (row * twist + column / twist)
    waveform += noise * rng.standard_normal(samples)
    return np.clip(waveform, -1, 1).astype(np.float32)
