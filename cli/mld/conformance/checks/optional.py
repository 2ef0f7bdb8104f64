"""Checks of the optional methods of a modality that describe or vary its data and draws."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import torch
from torch import Generator, Tensor

from mld.conformance.check import (
    CheckFailed,
    CheckSkipped,
    check,
    describe,
    is_finite,
    is_svg,
    require,
)
from mld.conformance.fixtures import NUM_CLASSES, NUM_ITEMS, ModalityUnderTest
from mld.conformance.isolated import DRAWS, metric_arguments
from mld_core import Metric, Modality, Summary, describe_exception

DESCRIBED = 20
"""Data whose split key and profile are looked at."""


@check("modality")
def metrics_return_floats(plugin: ModalityUnderTest) -> None:
    """Every metric has valid fields, and gives finite floats within its bounds for any items."""
    hints = get_type_hints(Metric)
    for name, metric in _metrics(plugin).items():
        require(isinstance(metric, Metric), f"{name} is a {type(metric).__name__}, not a Metric")
        for field in ("against", "better"):
            value, allowed = getattr(metric, field), get_args(hints[field])
            require(value in allowed, f"{name} has {field}={value!r}; allowed are {allowed}")
        needs_best = metric.better == "nearer" and metric.best is None
        require(not needs_best, f"{name} has better='nearer', but no `best` to be near to")
        lowest, highest = (
            math.inf * sign if bound is None else bound
            for sign, bound in zip((-1, 1), metric.bounds, strict=True)
        )
        for x in (plugin.sample_items, plugin.generated):
            items = _unrelated_draws(x) if metric.against == "draws" else x
            result: object = metric.measure(items, _reference(plugin, metric))
            is_number = isinstance(result, int | float) and math.isfinite(result)
            require(is_number, f"{name} gave {result!r}: return a finite float")
            assert isinstance(result, int | float)
            is_inside = lowest <= result <= highest
            require(is_inside, f"{name} is {result:.6g}, outside of its bounds {metric.bounds}")


@check("modality")
def metrics_best_on_identical(plugin: ModalityUnderTest) -> None:
    """A metric with a reference has its best value where items and reference are identical."""
    for name, metric in _metrics_of_similarity(plugin).items():
        if metric.best is None or metric.better == "nearer":
            continue
        value = metric.measure(*metric_arguments(metric, plugin.sample_items))
        require(
            math.isclose(value, metric.best, rel_tol=1e-3, abs_tol=1e-3),
            f"{name} of identical sets is {value:.6g}, but its `best` is {metric.best}",
        )


@check("modality")
def metrics_worse_on_corrupted(plugin: ModalityUnderTest) -> None:
    """A metric with a reference is worse for items or draws of other rows, or one item repeated."""
    for name, metric in _metrics_of_similarity(plugin).items():
        x = plugin.sample_items
        good = metric.measure(*metric_arguments(metric, x))
        bad = [metric.measure(corrupted, x) for corrupted in _corrupted(metric, x)]
        require(
            any(_is_worse(metric, value, good) for value in bad),
            f"{name} is {good:.6g} for identical sets and {bad[0]:.6g} for corrupted ones, but its "
            f"`better` is {metric.better!r}",
        )


@check("modality")
def metrics_reject_empty(plugin: ModalityUnderTest) -> None:
    """A metric raises ValueError without items, or without the reference that it needs."""
    for name, metric in _metrics(plugin).items():
        x = plugin.sample_items
        items, _ = metric_arguments(metric, x)
        cases = [("no items", items[:0], _reference(plugin, metric))]
        if metric.against != "none":
            cases.append(("an empty reference", items, x[:0]))
        for case, measured, reference in cases:
            try:
                value = metric.measure(measured, reference)
            except ValueError:
                continue
            except Exception as error:
                seen = describe_exception(error)
                raise CheckFailed(f"{name} with {case} raised {seen}: raise ValueError") from error
            raise CheckFailed(f"{name} with {case} gave {value!r}: raise ValueError")


@check("modality")
def summary_fits_its_draws(plugin: ModalityUnderTest) -> None:
    """`summarise` gives an item and finite figures, for any number of draws in any order."""
    if plugin.plugin_class.summarise is Modality.summarise:
        raise CheckSkipped("the modality does not summarise draws")
    x = plugin.sample_items
    for draws in (x[:1], x[:1].repeat(3, *[1] * (x.ndim - 1)), x):
        summary = plugin.modality.summarise(draws.clone())
        require(
            isinstance(summary, Summary), f"summarise gave a {type(summary).__name__}: no Summary"
        )
        assert summary is not None
        expected, seen = describe(draws[0]), describe(summary.best)
        require(seen == expected, f"the best estimate is {seen}, but items are {expected}")
        figures = [*summary.values.values()]
        are_finite = all(isinstance(each, int | float) and math.isfinite(each) for each in figures)
        require(are_finite, f"values are {dict(summary.values)}: finite numbers are needed")
        if bool((draws == draws[0]).all()):
            require(
                torch.allclose(summary.best.double(), draws[0].double(), rtol=1e-4, atol=1e-4),
                "the best estimate from equal draws is another item",
            )
        turned = plugin.modality.summarise(draws.flip(0))
        require(
            turned is not None
            and torch.allclose(turned.best.double(), summary.best.double(), rtol=1e-4, atol=1e-4),
            "the best estimate depends on the order of the draws",
        )


@check("modality")
def descriptions_are_plain(plugin: ModalityUnderTest) -> None:
    """`split_key` gives a str or None, and `profile` numbers and lists of words, before fitting."""
    plugin_class = plugin.plugin_class
    if (plugin_class.split_key, plugin_class.profile) == (Modality.split_key, Modality.profile):
        raise CheckSkipped("the modality has neither split keys nor a profile")
    unfitted = plugin_class(plugin.config)
    for raw in plugin.raw["train"][:DESCRIBED]:
        key, profile = unfitted.split_key(raw), dict(unfitted.profile(raw))
        require(key is None or isinstance(key, str), f"split_key gave {key!r}: a str or None")
        for name, value in profile.items():
            is_number = isinstance(value, int | float) and math.isfinite(value)
            are_words = isinstance(value, list | tuple) and all(
                isinstance(word, str) for word in value
            )
            require(
                isinstance(name, str) and (is_number or are_words),
                f"profile holds {name!r}: {value!r}: a finite number, or a list of words",
            )
        again = (unfitted.split_key(raw), dict(unfitted.profile(raw)))
        require((key, profile) == again, "split_key or profile changes from one call to the next")


@check("modality")
def plots_are_valid(plugin: ModalityUnderTest) -> None:
    """`plot` gives a valid SVG, the same one for the same draws, also of one row and one draw."""
    if plugin.plugin_class.plot is Modality.plot:
        raise CheckSkipped("the modality draws no plots")
    x = plugin.sample_items
    draws = _unrelated_draws(x)
    for rows, count in ((len(x), DRAWS), (1, 1), (2, DRAWS)):
        plots = [plugin.modality.plot(draws[:rows, :count].clone(), x[:rows]) for _ in range(2)]
        require(
            isinstance(plots[0], str) and (not plots[0] or is_svg(plots[0].encode())),
            f"plot of {rows} rows and {count} draws gave no valid SVG",
        )
        require(plots[0] == plots[1], "plot gave two pictures of the same draws")


@check("modality")
def augment_keeps_shape(plugin: ModalityUnderTest) -> None:
    """`augment` keeps shape, dtype and finiteness, and does not modify its input."""
    x, augmented = _augment(plugin, 0)
    expected, seen = describe(x), describe(augmented)
    require(seen == expected, f"augment turned {expected} into {seen}")
    require(is_finite(augmented), "augment turned finite items into NaN or infinity")
    require(torch.equal(x, plugin.sample_items), "augment modified its input: work on a copy")


@check("modality")
def augment_follows_generator(plugin: ModalityUnderTest) -> None:
    """`augment` draws from the generator that it is given and from no other."""
    torch.manual_seed(1)
    _, first = _augment(plugin, 0)
    torch.manual_seed(2)
    require(
        torch.equal(first, _augment(plugin, 0)[1]),
        "augment gave two results for the same generator state: pass generator=generator to every "
        "torch draw",
    )
    require(
        any(not torch.equal(first, _augment(plugin, seed)[1]) for seed in range(1, 5)),
        "augment gave the same result for five generators: draw from the generator, or do not "
        "override augment",
    )


def _metrics(plugin: ModalityUnderTest) -> dict[str, Metric]:
    metrics = dict(plugin.modality.metrics())
    if not metrics:
        raise CheckSkipped("the modality has no metrics of its own")
    return metrics


def _metrics_of_similarity(plugin: ModalityUnderTest) -> dict[str, Metric]:
    """The metrics that compare with items of the same rows or with the test set."""
    metrics = {
        name: metric
        for name, metric in _metrics(plugin).items()
        if metric.against not in ("train", "none")
    }
    if not metrics:
        raise CheckSkipped("no metric compares with originals, the truth or the test set")
    return metrics


def _reference(plugin: ModalityUnderTest, metric: Metric) -> Tensor:
    items = plugin.items["train" if metric.against == "train" else "test"]
    sizes = {"test": None, "train": 10 * NUM_CLASSES, "none": 0}
    return items[: sizes.get(metric.against, NUM_ITEMS)]


def _unrelated_draws(x: Tensor) -> Tensor:
    """For each row the items of the rows after it, "row draw *item"."""
    return torch.stack([x.roll(-1 - draw, 0) for draw in range(DRAWS)], 1)


def _corrupted(metric: Metric, x: Tensor) -> list[Tensor]:
    """Items with which a metric compares x, and of which one must be worse than x itself.

    Draws of other rows are too sure of what is wrong, or not sure of anything: an interval's
    coverage is worse in the one case, its width in the other.
    """
    if metric.against == "test":
        return [x[:1].expand_as(x).contiguous()]
    other = x.roll(1, 0)
    if metric.against == "draws":
        return [metric_arguments(metric, other)[0], _unrelated_draws(x)]
    return [other]


def _is_worse(metric: Metric, value: float, other: float) -> bool:
    """Whether a value of a metric is worse than another one."""
    if metric.better == "nearer":
        assert metric.best is not None
        return abs(value - metric.best) > abs(other - metric.best)
    return value < other if metric.better == "higher" else value > other


def _augment(plugin: ModalityUnderTest, seed: int) -> tuple[Tensor, Tensor]:
    """A copy of the sample items, and what `augment` makes of it."""
    if plugin.plugin_class.augment is Modality.augment:
        raise CheckSkipped("the modality does not augment")
    x = plugin.sample_items.clone()
    return x, plugin.modality.augment(x, Generator().manual_seed(seed))
