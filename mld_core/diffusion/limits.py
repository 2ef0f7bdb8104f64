"""Values that the schedule and the networks accept, checked without importing torch.

Each function raises ValueError for a value outside its limit, so that a spec can be checked before
anything is trained; the classes that use the values call the same functions.
"""

from __future__ import annotations

MAX_BETA_SUM = 160.0
"""Greatest beta_min + beta_max. At t = 1 alpha² is then 1.8e-35, and 1 / alpha² still finite."""

UNET_GROUPS = 8
"""Groups of every group normalisation of UNetMLP; its width is a multiple of this number."""

MAX_PER_SUBSET_MODALITIES = 4
"""Most modalities of PerSubsetMLPs, which has 2^M − 1 networks for M modalities."""


def check_betas(beta_min: float, beta_max: float) -> None:
    """ValueError unless 0 < beta_min <= beta_max and their sum is at most MAX_BETA_SUM."""
    if not 0 < beta_min <= beta_max:
        raise ValueError(f"need 0 < beta_min <= beta_max, got {beta_min}, {beta_max}")
    if beta_min + beta_max > MAX_BETA_SUM:
        raise ValueError(
            f"need beta_min + beta_max <= {MAX_BETA_SUM:g}, got {beta_min} + {beta_max}: "
            "alpha(1) would be too small for float32"
        )


def check_unet_width(width: int) -> None:
    """ValueError unless the groups of UNetMLP divide its width."""
    if width < 1 or width % UNET_GROUPS:
        raise ValueError(f"width must be a multiple of {UNET_GROUPS}, not {width}")


def check_per_subset(num_modalities: int) -> None:
    """ValueError if PerSubsetMLPs would need more networks than it accepts."""
    if num_modalities > MAX_PER_SUBSET_MODALITIES:
        raise ValueError(
            f"a network for each observed subset of {num_modalities} modalities would be "
            f"{2**num_modalities - 1} networks: at most {MAX_PER_SUBSET_MODALITIES} modalities "
            "are supported"
        )
