"""The value of a plugin's metric, with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mld.evaluation.group_interval import group_half_width
from mld_core import Metric, Modality, plugin_call

MAX_GPU_BYTES = 2**28
"""Bytes of all that a metric gets on a GPU; more stay in the processor's memory."""


def measure(
    name: str,
    modality: Modality,
    title: str,
    metric: Metric,
    x: Tensor | None,
    reference: Tensor,
    device: torch.device,
) -> float | None:
    """The value of a metric; None where there is nothing to measure, or it is not finite."""
    if x is None or not len(x) or (metric.against != "none" and not len(reference)):
        return None
    x, reference = _on_device(device, x, reference)
    with plugin_call(f"kind {modality.kind!r}: metric {title!r} of {name}"):
        value = float(metric.measure(x, reference))
    return value if np.isfinite(value) else None


def measure_with_ci(
    name: str,
    modality: Modality,
    title: str,
    metric: Metric,
    x: Tensor,
    truth: Tensor,
    device: torch.device,
) -> dict[str, Any]:
    """A metric of paired rows with its 95 % interval, which holds possible values alone."""
    x, truth = _on_device(device, x, truth)

    def value_of(rows: Bool[Tensor, " row"]) -> float | None:
        rows = rows.to(x.device)
        return measure(name, modality, title, metric, x[rows], truth[rows], x.device)

    n = len(x)
    value = value_of(torch.ones(n).bool())
    half_width = group_half_width(value_of, n)
    if value is None or half_width is None:
        return {"value": value, "low": None, "high": None, "n": n}
    lowest, highest = _possible_range(metric)
    low, high = max(value - half_width, lowest), min(value + half_width, highest)
    return {"value": value, "low": low, "high": high, "n": n}


def _on_device(device: torch.device, x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both on a device, or as they are if they take too much of its memory.

    Metrics may compute in double precision, which Apple's GPUs lack.
    """
    if device.type == "mps" or x.nbytes + reference.nbytes > MAX_GPU_BYTES:
        return x, reference
    return x.to(device), reference.to(device)


def _possible_range(metric: Metric) -> tuple[float, float]:
    """The bounds of a metric, one of which may be its best value."""
    lowest, highest = metric.bounds
    if metric.better == "lower" and lowest is None:
        lowest = metric.best
    if metric.better == "higher" and highest is None:
        highest = metric.best
    return -np.inf if lowest is None else lowest, np.inf if highest is None else highest
