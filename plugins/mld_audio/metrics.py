"""How far a sound is from the one it reconstructs."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mld_audio.spectrum import DECIBELS_PER_UNIT


def log_spectral_distance(
    items: Float[Tensor, "row mel frame"], reference: Float[Tensor, "row mel frame"]
) -> float:
    """The log-spectral distance in dB between items and their originals, row by row.

    For each frame the root mean square, over the mel bands, of the difference in dB; then the mean
    over frames and rows. Below 74 dB under full scale everything counts as equally silent.
    """
    if items.shape != reference.shape or len(items) == 0:
        raise ValueError(
            f"needs items and their originals, row by row: got {len(items)} and {len(reference)}"
        )
    difference = (items.clamp(-1, 1) - reference.clamp(-1, 1)) * DECIBELS_PER_UNIT
    return difference.square().mean(1).sqrt().mean().item()
