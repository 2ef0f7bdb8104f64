"""Checks of the labelled examples that every modality brings along."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from mld.conformance.check import check, demand
from mld.conformance.fixtures import CLASSES, ModalitySubject, rng
from mld_core import SplitName

ALIKE = 20


@check("modality")
def examples_for_any_labels(subject: ModalitySubject) -> None:
    """Examples come one for each label, in any order and number, or none for none."""
    unfitted = subject.plugin_class(subject.config)
    for labels in ([], [3], [9, 0, 0], list(range(CLASSES))):
        made = unfitted.examples(labels, "train", rng("any"))
        demand(
            len(made) == len(labels),
            f"examples gave {len(made)} data for the labels {labels}: return one for each",
        )


@check("modality")
def examples_repeat(subject: ModalitySubject) -> None:
    """The same state of the generator gives the same examples, another state gives others."""
    first, again, others = (_drawn(subject, "train", seed) for seed in ("one", "one", "two"))
    demand(
        _keys(first) == _keys(again),
        "the same rng gave two sets of examples: draw from the rng that is handed in, alone",
    )
    demand(
        _keys(first) != _keys(others),
        "another rng gave the same examples: draw them from the rng that is handed in",
    )


@check("modality")
def examples_vary(subject: ModalitySubject) -> None:
    """Twenty examples of a label are not all alike."""
    for label in range(CLASSES):
        x = _drawn(subject, "train", f"vary {label}", [label] * ALIKE)
        demand(
            len(set(_keys(x))) > 1,
            f"{ALIKE} examples of label {label} are all the same item: vary them by the rng",
        )


@check("modality")
def splits_share_no_example(subject: ModalitySubject) -> None:
    """No example of one split is served in another, so that held-out items are unseen."""
    seen = {split: set(_keys(x)) for split, x in subject.items.items()}
    for one, other in combinations(seen, 2):
        shared = len(seen[one] & seen[other])
        demand(
            not shared,
            f"{shared} items are served in both {one} and {other}: part the examples by `split`",
        )


def _drawn(
    subject: ModalitySubject, split: SplitName, seed: str, labels: list[int] | None = None
) -> Tensor:
    labels = list(range(CLASSES)) * 2 if labels is None else labels
    raw = subject.plugin_class(subject.config).examples(labels, split, rng(seed))
    return torch.stack([subject.modality.preprocess(one) for one in raw])


def _keys(x: Tensor) -> list[bytes]:
    return [item.contiguous().numpy().tobytes() for item in x]
