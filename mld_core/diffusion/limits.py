"""Limits of the schedule and of the networks, which a spec is checked for without torch."""

MAX_BETA_SUM = 160.0
"""Greatest beta_min + beta_max. At t = 1 alpha² is then 1.8e-35, and 1 / alpha² still finite."""

UNET_GROUPS = 8
"""Groups of every group normalisation of UNetMLP; its width is a multiple of this number."""

MAX_PER_SUBSET_MODALITIES = 4
"""Most modalities of PerSubsetMLPs, which has 2^M − 1 networks for M modalities."""
