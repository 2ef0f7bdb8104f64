"""Checks of `fit` and `preprocess`."""

from __future__ import annotations

import json

import torch

from mld.conformance.check import CheckFailed, check, require
from mld.conformance.fixtures import NUM_SAMPLE_ITEMS, ModalityUnderTest, describe, is_finite


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
        require(
            x.device.type == "cpu", f"preprocess gave an item on {x.device}: keep it on the CPU"
        )
        require(
            is_finite(x), f"an item of {split} holds NaN or infinity: clip or scale in preprocess"
        )


@check("modality")
def items_are_deterministic(plugin: ModalityUnderTest) -> None:
    """`preprocess` gives the same item every time, also from another instance with these facts."""
    for modality in (plugin.modality, plugin.rebuild()):
        raw = plugin.raw["test"][:NUM_SAMPLE_ITEMS]
        items = torch.stack([modality.preprocess(datum) for datum in raw])
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
