"""Operations that torch's exporter to ONNX lacks, by others that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def decompositions() -> Mapping[Any, Callable[..., Any]]:
    """torch's own decompositions, and those of this module."""
    table = torch.export.default_decompositions()
    aten = torch.ops.aten
    table[aten._cdist_forward.default] = _distances
    table[aten.searchsorted.Tensor] = _insertion_index
    return table


def _distances(
    x: Float[Tensor, "*batch row width"],
    y: Float[Tensor, "*batch point width"],
    p: float,
    mode: int | None,
) -> Float[Tensor, "*batch row point"]:
    """`torch.cdist`; only of Euclidean distances."""
    if p != 2:
        raise NotImplementedError(f"distances of the norm {p:g}")
    return (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).sqrt()


def _insertion_index(
    boundaries: Float[Tensor, "*batch knot"],
    x: Float[Tensor, "*batch value"],
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Int64[Tensor, "*batch value"]:
    """`torch.searchsorted`: how many boundaries are below each value, with `right` or equal."""
    if side is not None or sorter is not None or out_int32:
        raise NotImplementedError("searchsorted with side, sorter or out_int32")
    below, values = boundaries.unsqueeze(-2), x.unsqueeze(-1)
    return (below <= values if right else below < values).sum(-1)
