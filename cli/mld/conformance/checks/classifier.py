"""Checks of the classifier, and that the examples show what they are labelled as."""

from __future__ import annotations

from itertools import combinations

import torch

from mld.conformance.check import check, demand, skip
from mld.conformance.fixtures import CLASSES, FEW, ModalitySubject, form, seeded

TELLING = 0.3
"""A classifier that is right this often has learnt something; chance is 0.1."""

APART = 0.7
"""Two labels are told apart where a choice between the two is right this often; chance is 0.5."""


@check("modality")
def logits_for_any_classes(subject: ModalitySubject) -> None:
    """The classifier gives one finite logit for each item and class, however many classes."""
    for classes in (2, CLASSES, 17):
        classifier = seeded(lambda classes=classes: subject.modality.classifier(classes)).eval()
        with torch.no_grad():
            logits = classifier(subject.few)
        demand(
            tuple(logits.shape) == (FEW, classes) and logits.is_floating_point(),
            f"classifier({classes}) gave {form(logits)} for {FEW} items, expected floats of "
            f"shape {(FEW, classes)}",
        )
        demand(bool(logits.isfinite().all()), "the classifier gave NaN or infinity")


@check("modality")
def features_of_one_width(subject: ModalitySubject) -> None:
    """Features are one row of finite numbers per item, as wide for one item as for many."""
    classifier = subject.classifier()
    with torch.no_grad():
        many, one = (classifier.features(subject.few[:rows]) for rows in (FEW, 1))
    demand(
        many.ndim == 2 and len(many) == FEW and many.is_floating_point(),
        f"features gave {form(many)} for {FEW} items: give each one flat row of floats",
    )
    demand(
        one.shape == (1, many.shape[1]),
        f"features are {many.shape[1]} wide in a batch of {FEW}, and {form(one)} for one item",
    )
    demand(bool(many.isfinite().all()), "features hold NaN or infinity")


@check("modality")
def classifier_learns(subject: ModalitySubject) -> None:
    """After 300 steps the classifier is right on held-out examples well above chance."""
    right = _accuracy(subject)
    demand(
        right >= TELLING,
        f"after 300 steps {right:.0%} of held-out examples are classified right, and chance is "
        "10%: either the classifier does not learn, or the examples do not show their labels",
    )


@check("modality")
def labels_can_be_told_apart(subject: ModalitySubject) -> None:
    """Each label of the examples is learnable: no two look the same to the trained classifier."""
    if _accuracy(subject) < TELLING:
        skip("the classifier has learnt nothing: see classifier-learns")
    logits, labels = subject.logits, subject.labels("test")
    for a, b in combinations(range(CLASSES), 2):
        of_a, of_b = (logits[labels == label] for label in (a, b))
        right = (of_a[:, a] > of_a[:, b]).double().mean() + (
            of_b[:, b] > of_b[:, a]
        ).double().mean()
        demand(
            float(right) / 2 >= APART,
            f"of held-out examples of the labels {a} and {b} the trained classifier tells "
            f"{float(right) / 2:.0%} apart, and chance is 50%: let each label show",
        )


def _accuracy(subject: ModalitySubject) -> float:
    return float((subject.logits.argmax(1) == subject.labels("test")).double().mean())
