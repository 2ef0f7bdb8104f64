"""Checks of the modality's own metrics."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

from torch import Tensor

from mld.conformance.check import CheckFailed, CheckSkipped, check, require
from mld.conformance.fixtures import NUM_CLASSES, ModalityUnderTest
from mld_core import Metric, describe_exception


@check("modality")
def metrics_return_floats(plugin: ModalityUnderTest) -> None:
    """Every metric has valid fields, and gives finite floats for real and generated items."""
    hints = get_type_hints(Metric)
    for name, metric in _metrics(plugin).items():
        require(isinstance(metric, Metric), f"{name} is a {type(metric).__name__}, not a Metric")
        for field in ("against", "better"):
            value, allowed = getattr(metric, field), get_args(hints[field])
            require(value in allowed, f"{name} has {field}={value!r}; allowed are {allowed}")
        for items in (plugin.sample_items, plugin.generated):
            result: object = metric.measure(items, _reference(plugin, metric))
            require(
                isinstance(result, int | float) and math.isfinite(result),
                f"{name} gave {result!r}: return a finite float",
            )


@check("modality")
def metrics_best_on_identical(plugin: ModalityUnderTest) -> None:
    """A metric with a reference has its best value where items and reference are identical."""
    for name, metric in _metrics_of_similarity(plugin).items():
        value = metric.measure(plugin.sample_items, plugin.sample_items)
        require(
            metric.best is None or math.isclose(value, metric.best, rel_tol=1e-3, abs_tol=1e-3),
            f"{name} of identical sets is {value:.6g}, but its `best` is {metric.best}",
        )


@check("modality")
def metrics_worse_on_corrupted(plugin: ModalityUnderTest) -> None:
    """A metric with a reference is worse for mismatched items, or for one item repeated."""
    for name, metric in _metrics_of_similarity(plugin).items():
        x = plugin.sample_items
        corrupted = x.roll(1, 0) if metric.against == "originals" else x[:1].expand_as(x)
        good, bad = metric.measure(x, x), metric.measure(corrupted.contiguous(), x)
        require(
            bad < good if metric.better == "higher" else bad > good,
            f"{name} is {good:.6g} for identical sets and {bad:.6g} for corrupted ones, but its "
            f"`better` is {metric.better!r}",
        )


@check("modality")
def metrics_reject_empty(plugin: ModalityUnderTest) -> None:
    """A metric raises ValueError without items, or without the reference that it needs."""
    for name, metric in _metrics(plugin).items():
        x = plugin.sample_items
        cases = [("no items", x[:0], _reference(plugin, metric))]
        if metric.against != "none":
            cases.append(("an empty reference", x, x[:0]))
        for case, items, reference in cases:
            try:
                value = metric.measure(items, reference)
            except ValueError:
                continue
            except Exception as error:
                raise CheckFailed(
                    f"{name} with {case} raised {describe_exception(error)}: raise ValueError"
                ) from error
            raise CheckFailed(f"{name} with {case} gave {value!r}: raise ValueError")


def _metrics(plugin: ModalityUnderTest) -> dict[str, Metric]:
    metrics = dict(plugin.modality.metrics())
    if not metrics:
        raise CheckSkipped("the modality has no metrics of its own")
    return metrics


def _metrics_of_similarity(plugin: ModalityUnderTest) -> dict[str, Metric]:
    """The metrics that compare with originals or with the test set."""
    metrics = {
        name: metric
        for name, metric in _metrics(plugin).items()
        if metric.against in ("originals", "test")
    }
    if not metrics:
        raise CheckSkipped("no metric compares with originals or with the test set")
    return metrics


def _reference(plugin: ModalityUnderTest, metric: Metric) -> Tensor:
    match metric.against:
        case "originals":
            return plugin.sample_items
        case "test":
            return plugin.items["test"]
        case "train":
            return plugin.items["train"][: 10 * NUM_CLASSES]
    return plugin.sample_items[:0]
