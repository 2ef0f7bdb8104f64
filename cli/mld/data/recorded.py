"""Rows by what they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def rows_by_modalities(
    present: Bool[Tensor, "row modality"], names: Sequence[str]
) -> Iterator[tuple[list[str], Int64[Tensor, " row"]]]:
    """The rows in which the same of these modalities are present: their names, and the indices."""
    for pattern, rows in rows_by_pattern(present):
        yield [name for name, has in zip(names, pattern, strict=True) if has], rows


def rows_by_pattern(
    flags: Bool[Tensor, "row flag"],
) -> Iterator[tuple[list[bool], Int64[Tensor, " row"]]]:
    """The rows that have the same flags: these, and the indices."""
    for pattern in flags.unique(dim=0):
        yield pattern.tolist(), torch.nonzero((flags == pattern).all(1)).squeeze(1)
