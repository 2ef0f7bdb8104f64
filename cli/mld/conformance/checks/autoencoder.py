"""Checks of the autoencoder: its forms, its loss, and that it learns."""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import Tensor

from mld.conformance.check import check, demand, skip
from mld.conformance.fixtures import FEW, SEED, ModalitySubject, form, seeded

CERTAIN = 3.0
"""A difference counts from this many of its standard errors on."""


@check("modality")
def latents_are_flat(subject: ModalitySubject) -> None:
    """Encode gives `latent_dim` finite numbers for each item."""
    with torch.no_grad():
        z = subject.autoencoder().encode(subject.few)
    wanted = (FEW, subject.config.latent_dim)
    demand(
        tuple(z.shape) == wanted and z.is_floating_point(),
        f"encode gave {form(z)}, expected floats of shape {wanted}",
    )
    demand(bool(z.isfinite().all()), "encode gave NaN or infinity for an example")


@check("modality")
def latent_dim_is_obeyed(subject: ModalitySubject) -> None:
    """Another latent_dim gives latents of that width."""
    wanted = subject.config.latent_dim + 1
    told = {**subject.config.model_dump(), "latent_dim": wanted}
    try:
        config = subject.plugin_class.Config.model_validate(told)
    except ValidationError:
        skip(f"the Config does not take latent_dim: {wanted}")
    autoencoder = seeded(subject.plugin_class(config, subject.facts).autoencoder).eval()
    with torch.no_grad():
        z = autoencoder.encode(subject.few)
        x = autoencoder.decode(z)
    demand(z.shape[1] == wanted, f"with latent_dim: {wanted} encode gave {form(z)}")
    demand(form(x) == form(subject.few), f"with latent_dim: {wanted} decode gave {form(x)}")


@check("modality")
def decodes_to_data_space(subject: ModalitySubject) -> None:
    """Decode gives finite items of the shape and dtype of preprocess, not logits or the like."""
    autoencoder = subject.autoencoder()
    with torch.no_grad():
        x = autoencoder.decode(autoencoder.encode(subject.few))
    _demand_items(x, subject.few)


@check("modality")
def decodes_any_latent(subject: ModalitySubject) -> None:
    """Decode takes latents that no item has, after training too: samples are such."""
    _demand_items(subject.generated, subject.few)


@check("modality")
def loss_is_per_item(subject: ModalitySubject) -> None:
    """The loss is one finite number for each item."""
    autoencoder = subject.autoencoder()
    with torch.no_grad():
        loss = autoencoder.loss(autoencoder.encode(subject.few), subject.few)
    demand(
        tuple(loss.shape) == (FEW,) and loss.is_floating_point(),
        f"loss gave {form(loss)} for {FEW} items: give each its own, do not average over the batch",
    )
    demand(bool(loss.isfinite().all()), "the loss of an example is NaN or infinite")


@check("modality")
def loss_differentiable(subject: ModalitySubject) -> None:
    """The loss has a finite gradient with respect to the latent that it is given."""
    autoencoder = subject.autoencoder()
    with torch.no_grad():
        z = autoencoder.encode(subject.few)
    z = (z + 0.1 * _noise(z)).requires_grad_()
    loss = autoencoder.loss(z, subject.few).sum()
    demand(loss.requires_grad, "the loss does not depend on z: compute it from z, not from x again")
    (gradient,) = torch.autograd.grad(loss, z, allow_unused=True)
    demand(
        gradient is not None and bool(gradient.ne(0).any(1).all()),
        "the loss of an item does not change with its z: compute it from z, not from x again",
    )
    demand(bool(gradient.isfinite().all()), "the loss has a gradient in z that is not finite")


@check("modality")
def autoencoder_learns(subject: ModalitySubject) -> None:
    """200 steps lower the loss of held-out items."""
    fresh = subject.autoencoder()
    if not any(p.requires_grad for p in fresh.parameters()):
        skip("the autoencoder has no trainable parameters: it is used as it is")
    before, after = (_losses(net, subject) for net in (fresh, subject.trained_autoencoder))
    demand(bool(after.isfinite().all()), "the loss is NaN or infinite after 200 steps")
    demand(
        _clearly_positive(before - after),
        f"200 steps took the mean loss of held-out items from {before.mean():.4g} to "
        f"{after.mean():.4g}: see that encode and decode are trained by it, and at which scale",
    )


@check("modality")
def latent_tells_items_apart(subject: ModalitySubject) -> None:
    """After training an item is likelier under its own latent than under another item's."""
    own, other = (_losses(subject.trained_autoencoder, subject, turn) for turn in (0, 1))
    demand(
        _clearly_positive(other - own),
        f"the mean loss of held-out items is {own.mean():.4g} with their own latents and "
        f"{other.mean():.4g} with others': the latent carries nothing of the item",
    )


def _demand_items(x: Tensor, like: Tensor) -> None:
    demand(
        form(x) == form(like),
        f"decode gave {form(x)}, and items are {form(like)}: decode must end in data space",
    )
    finite = not x.is_floating_point() or bool(x.isfinite().all())
    demand(finite, "decode gave NaN or infinity")


@torch.no_grad()
def _losses(autoencoder, subject: ModalitySubject, turn: int = 0) -> Tensor:
    """The loss of each held-out item, given the latent of the item `turn` rows before it."""
    x = subject.items["test"]
    return autoencoder.loss(autoencoder.encode(x).roll(turn, 0), x).double()


def _clearly_positive(differences: Tensor) -> bool:
    """Whether the mean is above 0 by more than chance."""
    error = differences.std() / len(differences) ** 0.5
    return bool(differences.mean() > CERTAIN * error) and bool(differences.mean() > 0)


def _noise(z: Tensor) -> Tensor:
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED))
