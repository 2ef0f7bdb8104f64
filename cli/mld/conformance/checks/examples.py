"""Checks of the labelled examples that every modality supplies."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from mld.conformance.check import check, require
from mld.conformance.fixtures import NUM_CLASSES, ModalityUnderTest, rng
from mld_core import SplitName

EXAMPLES_PER_LABEL = 20


@check("modality")
def examples_for_any_labels(plugin: ModalityUnderTest) -> None:
    """`examples` returns one datum per label, for labels in any order and number, also for none."""
    unfitted = plugin.plugin_class(plugin.config)
    for labels in ([], [3], [9, 0, 0], list(range(NUM_CLASSES))):
        examples = unfitted.examples(labels, "train", rng("any"))
        require(
            len(examples) == len(labels),
            f"examples gave {len(examples)} data for the labels {labels}: return one for each",
        )


@check("modality")
def examples_follow_rng(plugin: ModalityUnderTest) -> None:
    """`examples` gives the same data for the same generator state, and others for another."""
    first, second, others = (
        _example_items(plugin, "train", seed) for seed in ("one", "one", "two")
    )
    require(
        _bytes_of_items(first) == _bytes_of_items(second),
        "examples gave two results for the same rng state: draw from the given rng only",
    )
    require(
        _bytes_of_items(first) != _bytes_of_items(others),
        "examples gave the same data for another rng state: draw them from the given rng",
    )


@check("modality")
def examples_vary(plugin: ModalityUnderTest) -> None:
    """Twenty examples of one label are not all the same."""
    for label in range(NUM_CLASSES):
        x = _example_items(plugin, "train", f"vary {label}", [label] * EXAMPLES_PER_LABEL)
        require(
            len(set(_bytes_of_items(x))) > 1,
            f"{EXAMPLES_PER_LABEL} examples of label {label} are all the same item: vary them "
            "with the rng",
        )


@check("modality")
def splits_share_no_example(plugin: ModalityUnderTest) -> None:
    """No example occurs in two splits, so that held-out items are unseen in training."""
    items = {split: set(_bytes_of_items(x)) for split, x in plugin.items.items()}
    for a, b in combinations(items, 2):
        shared = len(items[a] & items[b])
        require(
            not shared, f"{shared} items are in both {a} and {b}: let examples depend on `split`"
        )


def _example_items(
    plugin: ModalityUnderTest, split: SplitName, seed: str, labels: list[int] | None = None
) -> Tensor:
    labels = list(range(NUM_CLASSES)) * 2 if labels is None else labels
    raw = plugin.plugin_class(plugin.config).examples(labels, split, rng(seed))
    return torch.stack([plugin.modality.preprocess(datum) for datum in raw])


def _bytes_of_items(x: Tensor) -> list[bytes]:
    return [item.contiguous().numpy().tobytes() for item in x]
