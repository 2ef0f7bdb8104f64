"""Checks of the variations that training sees."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mld.conformance.check import check, demand, skip
from mld.conformance.fixtures import ModalitySubject, form
from mld_core import Modality


@check("modality")
def augment_keeps_form(subject: ModalitySubject) -> None:
    """Augment keeps shape, dtype and finite values, and leaves the batch that it is given."""
    _demand_augment(subject)
    x = subject.few.clone()
    varied = _augmented(subject, 0, x)
    demand(form(varied) == form(x), f"augment turned {form(x)} into {form(varied)}")
    finite = not varied.is_floating_point() or bool(varied.isfinite().all())
    demand(finite, "augment made NaN or infinity of finite items")
    demand(torch.equal(x, subject.few), "augment changed its input: work on a copy")


@check("modality")
def augment_follows_generator(subject: ModalitySubject) -> None:
    """Augment draws from the generator that it is given, and from nothing else."""
    _demand_augment(subject)
    torch.manual_seed(1)
    first = _augmented(subject, 0)
    torch.manual_seed(2)
    again = _augmented(subject, 0)
    demand(
        torch.equal(first, again),
        "the same generator gave two variations: pass generator=generator to every torch draw",
    )
    others = [_augmented(subject, seed) for seed in range(1, 5)]
    demand(
        any(not torch.equal(first, other) for other in others),
        "five generators gave the same variation: draw from the generator, or leave augment out",
    )


def _demand_augment(subject: ModalitySubject) -> None:
    if subject.plugin_class.augment is Modality.augment:
        skip("the modality does not augment")


def _augmented(subject: ModalitySubject, seed: int, x: Tensor | None = None) -> Tensor:
    x = subject.few.clone() if x is None else x
    return subject.modality.augment(x, Generator().manual_seed(seed))
