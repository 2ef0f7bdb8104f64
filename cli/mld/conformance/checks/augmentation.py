"""Checks of `Modality.augment`."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mld.conformance.check import CheckSkipped, check, require
from mld.conformance.fixtures import ModalityUnderTest, describe, is_finite
from mld_core import Modality


@check("modality")
def augment_keeps_shape(plugin: ModalityUnderTest) -> None:
    """`augment` keeps shape, dtype and finiteness, and does not modify its input."""
    _skip_without_augment(plugin)
    x = plugin.sample_items.clone()
    augmented = plugin.modality.augment(x, Generator().manual_seed(0))
    require(
        describe(augmented) == describe(x),
        f"augment turned {describe(x)} into {describe(augmented)}",
    )
    require(is_finite(augmented), "augment turned finite items into NaN or infinity")
    require(torch.equal(x, plugin.sample_items), "augment modified its input: work on a copy")


@check("modality")
def augment_follows_generator(plugin: ModalityUnderTest) -> None:
    """`augment` draws from the generator that it is given and from no other."""
    _skip_without_augment(plugin)
    torch.manual_seed(1)
    first = _augment(plugin, 0)
    torch.manual_seed(2)
    second = _augment(plugin, 0)
    require(
        torch.equal(first, second),
        "augment gave two results for the same generator state: pass generator=generator to every "
        "torch draw",
    )
    require(
        any(not torch.equal(first, _augment(plugin, seed)) for seed in range(1, 5)),
        "augment gave the same result for five generators: draw from the generator, or do not "
        "override augment",
    )


def _skip_without_augment(plugin: ModalityUnderTest) -> None:
    if plugin.plugin_class.augment is Modality.augment:
        raise CheckSkipped("the modality does not augment")


def _augment(plugin: ModalityUnderTest, seed: int) -> Tensor:
    x = plugin.sample_items.clone()
    return plugin.modality.augment(x, Generator().manual_seed(seed))
