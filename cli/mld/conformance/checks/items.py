"""Checks of fitting, and of raw data as items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch

from mld.conformance.check import Broken, check, demand
from mld.conformance.fixtures import FEW, ModalitySubject, form


@check("modality")
def fit_gives_json(subject: ModalitySubject) -> None:
    """What fit returns is plain JSON, and comes back from it the same."""
    facts = subject.facts
    demand(isinstance(facts, dict), f"fit gave a {type(facts).__name__}: return a dict")
    try:
        back = json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Broken(f"fit gave what is not JSON ({error}): return plain data") from error
    demand(back == facts, "facts change on their way through JSON: use str keys, and lists")


@check("modality")
def fit_reads_once(subject: ModalitySubject) -> None:
    """Fit takes data that can be gone through but once, and learns the same from it."""
    raw = subject.raw["train"]
    learnt = subject.plugin_class.fit(subject.config, _once(raw))
    demand(
        learnt == subject.facts,
        "fit learnt other facts from an iterator than from a list: go through `raw` once alone",
    )


@check("modality")
def items_of_one_form(subject: ModalitySubject) -> None:
    """Every item is a tensor of the same shape and dtype, on the CPU, with finite values."""
    for split, x in subject.items.items():
        demand(
            form(x[0]) == form(subject.items["train"][0]),
            f"items of {split} are {form(x[0])}, those of train otherwise: the form may depend "
            "on config and facts alone",
        )
        demand(x.numel() > 0, f"an item is empty: {form(x[0])}")
        demand(x.device.type == "cpu", f"preprocess gave an item on {x.device}: leave it on cpu")
        demand(
            not x.is_floating_point() or bool(x.isfinite().all()),
            f"an item of {split} holds NaN or infinity: clip or scale in preprocess",
        )


@check("modality")
def items_repeat(subject: ModalitySubject) -> None:
    """A datum gives the same item every time, and from every instance of the same facts."""
    for modality in (subject.modality, subject.again()):
        again = torch.stack([modality.preprocess(raw) for raw in subject.raw["test"][:FEW]])
        demand(
            torch.equal(again, subject.few),
            "the same datum gave two items: preprocess may depend on config, facts and raw "
            "alone; what varies belongs in augment",
        )


@check("modality")
def items_own_their_memory(subject: ModalitySubject) -> None:
    """An item stays as it is when the next one is made."""
    raw, labels = subject.raw["test"], subject.labels("test")
    first = subject.modality.preprocess(raw[0])
    kept = first.clone()
    for other in raw[1 : int(labels.max()) + 1]:
        subject.modality.preprocess(other)
    demand(torch.equal(first, kept), "an item changed when the next was made: return new tensors")


def _once(raw: list[Any]) -> Iterator[Any]:
    yield from raw
