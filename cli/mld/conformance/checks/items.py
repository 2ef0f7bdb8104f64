"""Checks of `fit`, `preprocess` and the labelled examples that every modality supplies."""

from __future__ import annotations

import json
from itertools import combinations

import torch
from torch import Tensor

from mld.conformance.check import CheckFailed, CheckSkipped, check, describe, is_finite, require
from mld.conformance.fixtures import NUM_CLASSES, NUM_ITEMS, ModalityUnderTest, preprocess_all, rng

EXAMPLES_PER_LABEL = 20


@check("modality")
def fit_returns_json(plugin: ModalityUnderTest) -> None:
    """`fit` returns plain JSON that is equal after a round trip."""
    facts = plugin.facts
    require(isinstance(facts, dict), f"fit gave a {type(facts).__name__}: return a dict")
    try:
        loaded = json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckFailed(f"the facts of fit are not JSON ({error}): return plain data") from error
    require(loaded == facts, "a JSON round trip changes the facts of fit: use str keys, and lists")


@check("modality")
def fit_reads_once(plugin: ModalityUnderTest) -> None:
    """`fit` accepts an iterator and learns the same facts from it as from a list."""
    facts = plugin.plugin_class.fit(plugin.config, iter(plugin.raw["train"]))
    require(
        facts == plugin.facts,
        "fit learnt other facts from an iterator than from a list: iterate over `raw` only once",
    )


@check("modality")
def items_have_one_shape(plugin: ModalityUnderTest) -> None:
    """All items are non-empty CPU tensors of one shape and dtype, with finite values."""
    for split, x in plugin.items.items():
        require(
            describe(x[0]) == describe(plugin.items["train"][0]),
            f"items of {split} are {describe(x[0])}, unlike those of train: shape and dtype may "
            "depend on config and facts only",
        )
        require(x.numel() > 0, f"an item is empty: {describe(x[0])}")
        on_cpu, finite = x.device.type == "cpu", is_finite(x)
        require(on_cpu, f"preprocess gave an item on {x.device}: keep it on the CPU")
        require(finite, f"an item of {split} holds NaN or infinity: clip or scale in preprocess")


@check("modality")
def items_are_deterministic(plugin: ModalityUnderTest) -> None:
    """`preprocess` gives the same item every time, also from another instance with these facts."""
    for modality in (plugin.modality, plugin.rebuild()):
        items = preprocess_all(modality, plugin.raw["test"][:NUM_ITEMS])
        require(
            torch.equal(items, plugin.sample_items),
            "preprocess gave two items for the same datum: it may depend on config, facts and raw "
            "only; move random variation to augment",
        )


@check("modality")
def items_share_no_memory(plugin: ModalityUnderTest) -> None:
    """An item does not change when others are preprocessed."""
    raw, labels = plugin.raw["test"], plugin.labels("test")
    item = plugin.modality.preprocess(raw[0])
    before = item.clone()
    for other in raw[1 : int(labels.max()) + 1]:
        plugin.modality.preprocess(other)
    require(
        torch.equal(item, before),
        "an item changed when the next one was preprocessed: return a new tensor each time",
    )


@check("modality")
def packing_keeps_items(plugin: ModalityUnderTest) -> None:
    """`unpack` gives the items that were packed, bit for bit, in whatever batches they come."""
    modality, x = plugin.modality, plugin.sample_items
    packed = modality.pack(x.clone())
    one_by_one = torch.cat([modality.pack(item[None].clone()) for item in x])
    same = describe(packed) == describe(one_by_one) and torch.equal(packed, one_by_one)
    require(same, "pack gave other values for a batch than for its items one by one")
    back = modality.unpack(packed.clone())
    require(
        describe(back) == describe(x) and torch.equal(back, x),
        f"items are {describe(x)}, and {describe(back)} with other values after pack and unpack: "
        "pack must lose nothing",
    )
    require(
        packed.nbytes <= x.nbytes,
        f"{x.nbytes} bytes of items are {packed.nbytes} bytes when packed: leave them as they are",
    )


@check("modality")
def examples_for_any_labels(plugin: ModalityUnderTest) -> None:
    """`examples` returns one datum per label, for labels in any order and number, also for none."""
    unfitted = plugin.plugin_class(plugin.config)
    for labels in ([], [3], [9, 0, 0], list(range(NUM_CLASSES))):
        size = len(unfitted.examples(labels, "train", rng("any")))
        message = f"examples gave {size} data for the labels {labels}: return one for each"
        require(size == len(labels), message)


@check("modality")
def examples_follow_rng(plugin: ModalityUnderTest) -> None:
    """`examples` gives the same data for the same generator state, and others for another."""
    labels = list(range(NUM_CLASSES)) * 2
    first, second, others = (
        _bytes_of_items(plugin.more_items(labels, "train", seed)) for seed in ("one", "one", "two")
    )
    require(
        first == second,
        "examples gave two results for the same rng state: draw from the given rng only",
    )
    require(
        first != others,
        "examples gave the same data for another rng state: draw them from the given rng",
    )


@check("modality")
def examples_vary(plugin: ModalityUnderTest) -> None:
    """Twenty examples of one label are not all the same."""
    for label in range(NUM_CLASSES):
        x = plugin.more_items([label] * EXAMPLES_PER_LABEL, "train", f"vary {label}")
        require(
            len(set(_bytes_of_items(x))) > 1,
            f"{EXAMPLES_PER_LABEL} examples of label {label} are all the same item: vary them "
            "with the rng",
        )


@check("modality")
def splits_share_no_example(plugin: ModalityUnderTest) -> None:
    """No example occurs in two splits, so that held-out items are unseen in training."""
    x = plugin.sample_items
    if x[0].numel() == 1 and not x.is_floating_point():
        raise CheckSkipped("an item is one integer, a class, and every split has every class")
    items = {split: set(_bytes_of_items(x)) for split, x in plugin.items.items()}
    for a, b in combinations(items, 2):
        shared = len(items[a] & items[b])
        message = f"{shared} items are in both {a} and {b}: let examples depend on `split`"
        require(not shared, message)


def _bytes_of_items(x: Tensor) -> list[bytes]:
    return [item.contiguous().numpy().tobytes() for item in x]
