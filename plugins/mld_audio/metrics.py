"""Quality of spectrograms beside their originals."""

from __future__ import annotations

from mld_audio.spectrum import DECIBELS_PER_UNIT, Spectrograms


def log_spectral_distance(items: Spectrograms, originals: Spectrograms) -> float:
    """Log-spectral distance between items and their originals, in dB.

    The root mean square over mel bands of the difference in dB, averaged over frames and rows.
    All levels more than 74 dB below full scale count as equal.
    """
    if items.shape != originals.shape or len(items) == 0:
        raise ValueError(
            f"needs items and their originals, row by row: got {len(items)} and {len(originals)}"
        )
    difference = (items.clamp(-1, 1) - originals.clamp(-1, 1)) * DECIBELS_PER_UNIT
    return difference.square().mean(1).sqrt().mean().item()
