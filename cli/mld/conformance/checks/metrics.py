"""Checks of the modality's own metrics."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

from torch import Tensor

from mld.conformance.check import Broken, check, demand, skip
from mld.conformance.fixtures import CLASSES, ModalitySubject
from mld_core import Metric

PAIRED = ("originals", "test")
"""What a metric compares likeness with."""


@check("modality")
def metrics_give_numbers(subject: ModalitySubject) -> None:
    """Every metric says how it is read, and measures real and generated items as finite floats."""
    hints = get_type_hints(Metric)
    for name, metric in _metrics(subject).items():
        demand(isinstance(metric, Metric), f"{name} is a {type(metric).__name__}, not a Metric")
        for field in ("against", "better"):
            told, known = getattr(metric, field), get_args(hints[field])
            demand(told in known, f"{name} has {field}={told!r}; it must be one of {known}")
        for items in (subject.few, subject.generated):
            value = metric.measure(items, _reference(subject, metric))
            demand(
                isinstance(value, int | float) and math.isfinite(value),
                f"{name} measured {value!r}: return a finite float",
            )


@check("modality")
def metrics_best_on_identical(subject: ModalitySubject) -> None:
    """A metric of likeness has its best value where items and reference are the same."""
    for name, metric in _of_likeness(subject).items():
        value = metric.measure(subject.few, subject.few)
        demand(
            metric.best is None or math.isclose(value, metric.best, rel_tol=1e-3, abs_tol=1e-3),
            f"{name} of identical sets is {value:.6g}, and its best is said to be {metric.best}",
        )


@check("modality")
def metrics_worse_on_corrupted(subject: ModalitySubject) -> None:
    """A metric of likeness is worse for other items, or for one item over and over."""
    for name, metric in _of_likeness(subject).items():
        x = subject.few
        corrupted = x.roll(1, 0) if metric.against == "originals" else x[:1].expand_as(x)
        good, bad = metric.measure(x, x), metric.measure(corrupted.contiguous(), x)
        worse = bad < good if metric.better == "higher" else bad > good
        demand(
            worse,
            f"{name} is {good:.6g} for identical sets and {bad:.6g} for corrupted ones, and "
            f"{metric.better} is said to be better",
        )


@check("modality")
def metrics_refuse_empty(subject: ModalitySubject) -> None:
    """A metric of no items, or with none in the reference that it needs, is a ValueError."""
    for name, metric in _metrics(subject).items():
        x = subject.few
        cases = [(x[:0], _reference(subject, metric), "no items")]
        if metric.against != "none":
            cases.append((x, x[:0], "no reference"))
        for items, reference, told in cases:
            try:
                value = metric.measure(items, reference)
            except ValueError:
                continue
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise Broken(f"{name} of {told} ended in {said}: raise ValueError") from error
            raise Broken(f"{name} of {told} measured {value!r}: raise ValueError")


def _metrics(subject: ModalitySubject) -> dict[str, Metric]:
    metrics = dict(subject.modality.metrics())
    if not metrics:
        skip("the modality has no metrics of its own")
    return metrics


def _of_likeness(subject: ModalitySubject) -> dict[str, Metric]:
    """The metrics that compare with originals or with the test set."""
    found = {n: metric for n, metric in _metrics(subject).items() if metric.against in PAIRED}
    if not found:
        skip("no metric compares with originals or with the test set")
    return found


def _reference(subject: ModalitySubject, metric: Metric) -> Tensor:
    match metric.against:
        case "originals":
            return subject.few
        case "test":
            return subject.items["test"]
        case "train":
            return subject.items["train"][: 10 * CLASSES]
    return subject.few[:0]
