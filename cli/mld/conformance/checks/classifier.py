"""Checks of the classifier, and that the examples express their labels."""

from __future__ import annotations

from collections.abc import Set
from itertools import combinations

import torch

from mld.conformance.check import CheckSkipped, check, describe, is_finite, require
from mld.conformance.fixtures import NUM_CLASSES, NUM_ITEMS, ModalityUnderTest, seeded_init
from mld_core import ModalityConfig

MIN_ACCURACY = 0.3
"""Held-out accuracy from which a classifier has learnt something; chance is 0.1."""

MIN_PAIR_ACCURACY = 0.7
"""Held-out accuracy, between two labels, from which they are distinguishable; chance is 0.5."""


@check("modality")
def logits_for_any_classes(plugin: ModalityUnderTest) -> None:
    """The classifier gives one finite logit per item and class, for any number of classes."""
    for classes in (2, NUM_CLASSES, 17):
        classifier = seeded_init(lambda classes=classes: plugin.modality.classifier(classes)).eval()
        with torch.no_grad():
            logits = classifier(plugin.sample_items)
        expected = (NUM_ITEMS, classes)
        require(
            tuple(logits.shape) == expected and logits.is_floating_point(),
            f"classifier({classes}) gave {describe(logits)} for {NUM_ITEMS} items, "
            f"expected floats of shape {expected}",
        )
        require(is_finite(logits), "the classifier gave NaN or infinity")


@check("modality")
def features_have_fixed_width(plugin: ModalityUnderTest) -> None:
    """`features` gives one row of finite numbers per item, of the same width for any batch size."""
    classifier = plugin.classifier()
    with torch.no_grad():
        batch = classifier.features(plugin.sample_items)
        single = classifier.features(plugin.sample_items[:1])
    require(
        batch.ndim == 2 and len(batch) == NUM_ITEMS and batch.is_floating_point(),
        f"features gave {describe(batch)} for {NUM_ITEMS} items: return one flat row of "
        "floats per item",
    )
    require(
        single.shape == (1, batch.shape[1]),
        f"features are {batch.shape[1]} wide in a batch of {NUM_ITEMS}, but "
        f"{describe(single)} for one item",
    )
    require(is_finite(batch), "features gave NaN or infinity")


@check("modality")
def classifier_learns(plugin: ModalityUnderTest) -> None:
    """After 300 steps the classifier's held-out accuracy is well above chance."""
    accuracy = _accuracy(plugin)
    require(
        accuracy >= MIN_ACCURACY,
        f"after 300 steps the accuracy on held-out examples is {accuracy:.0%}, and chance is 10%: "
        "either the classifier does not learn, or the examples do not show their labels",
    )


@check("modality")
def labels_are_distinguishable(plugin: ModalityUnderTest) -> None:
    """The trained classifier can distinguish the examples of any two labels."""
    if _accuracy(plugin) < MIN_ACCURACY:
        raise CheckSkipped("the classifier has not learnt: see classifier-learns")
    logits, labels = plugin.logits, plugin.labels("test")
    for a, b in combinations(range(NUM_CLASSES), 2):
        logits_a, logits_b = (logits[labels == label] for label in (a, b))
        correct_a = (logits_a[:, a] > logits_a[:, b]).double().mean()
        correct_b = (logits_b[:, b] > logits_b[:, a]).double().mean()
        accuracy = float(correct_a + correct_b) / 2
        require(
            accuracy >= MIN_PAIR_ACCURACY,
            f"between the labels {a} and {b} the trained classifier is right on {accuracy:.0%} of "
            "held-out examples, and chance is 50%: let the examples show each label",
        )


@check("modality")
def only_autoencoder_needs_its_settings(plugin: ModalityUnderTest) -> None:
    """Neither the classifier nor `augment` reads a setting that `autoencoder_settings` names."""
    config, x = plugin.config, plugin.sample_items
    unknown = config.autoencoder_settings - set(type(config).model_fields)
    require(not unknown, f"autoencoder_settings names {sorted(unknown)}, which are no settings")
    modality = plugin.rebuild()
    modality.config, read = _recording(config, config.autoencoder_settings)
    classifier = seeded_init(lambda: modality.classifier(NUM_CLASSES))
    classifier(x), classifier.features(x), modality.augment(x, torch.Generator().manual_seed(0))
    require(
        not read,
        f"the classifier or augment reads {sorted(read)} of the config: remove that from "
        "autoencoder_settings",
    )


def _recording(config: ModalityConfig, settings: Set[str]) -> tuple[ModalityConfig, set[str]]:
    """A copy of a config, and those of the settings that are read of it, from now on."""
    read: set[str] = set()

    class Recording(type(config)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> object:
            if name in settings:
                read.add(name)
            return super().__getattribute__(name)

    copy = config.model_copy()
    object.__setattr__(copy, "__class__", Recording)
    return copy, read


def _accuracy(plugin: ModalityUnderTest) -> float:
    return float((plugin.logits.argmax(1) == plugin.labels("test")).double().mean())
