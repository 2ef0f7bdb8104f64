"""Rows by the modalities that they have recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def rows_by_modalities(
    present: Bool[Tensor, "row modality"], names: Sequence[str]
) -> Iterator[tuple[list[str], Tensor]]:
    """The rows in which the same of these modalities are present: their names, and the indices."""
    for pattern in present.unique(dim=0):
        row_names = [name for name, has in zip(names, pattern.tolist(), strict=True) if has]
        yield row_names, torch.nonzero((present == pattern).all(1)).squeeze(1)
