"""Checks of the autoencoder: shapes, loss, and that it learns."""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from mld.conformance.check import CheckSkipped, check, describe, is_finite, require
from mld.conformance.fixtures import NUM_ITEMS, SEED, ModalityUnderTest, seeded_init
from mld.storage.digests import digest
from mld.training.job import is_trainable
from mld_core import Autoencoder

MIN_Z = 3.0
"""Standard errors by which a mean must exceed 0 to count as positive."""


@check("modality")
def latents_are_flat(plugin: ModalityUnderTest) -> None:
    """`encode` gives as many finite numbers per item as `latent_shape` has, flattened."""
    with torch.no_grad():
        z = plugin.autoencoder().encode(plugin.sample_items)
    expected = (NUM_ITEMS, plugin.modality.latent_dim)
    require(
        tuple(z.shape) == expected and z.is_floating_point(),
        f"encode gave {describe(z)}, expected floats of shape {expected}",
    )
    require(is_finite(z), "encode gave NaN or infinity for an example")


@check("modality")
def latent_shape_is_valid(plugin: ModalityUnderTest) -> None:
    """`latent_shape` is a vector, sequence or grid: (D,), (L, C) or (C, H, W)."""
    shape = plugin.modality.latent_shape
    sizes_are_valid = isinstance(shape, tuple) and all(type(s) is int and s > 0 for s in shape)
    require(
        sizes_are_valid and 1 <= len(shape) <= 3,
        f"latent_shape is {shape!r}, expected a tuple of one to three positive whole numbers",
    )


@check("modality")
def latent_dim_is_respected(plugin: ModalityUnderTest) -> None:
    """Another latent_dim gives latents of that width."""
    if plugin.config.latent_dim is None:
        raise CheckSkipped("the Config has no latent_dim")
    latent_dim = plugin.config.latent_dim + 1
    values = {**plugin.config.model_dump(), "latent_dim": latent_dim}
    try:
        config = plugin.plugin_class.Config.model_validate(values)
    except ValidationError:
        raise CheckSkipped(f"the Config rejects latent_dim: {latent_dim}") from None
    modality = plugin.plugin_class(config, plugin.facts)
    if modality.latent_dim != latent_dim:
        raise CheckSkipped(f"the facts limit latent_dim to {modality.latent_dim}")
    autoencoder = seeded_init(modality.autoencoder).eval()
    with torch.no_grad():
        z = autoencoder.encode(plugin.sample_items)
        x = autoencoder.decode(z)
    require(z.shape[1] == latent_dim, f"with latent_dim: {latent_dim} encode gave {describe(z)}")
    is_item = describe(x) == describe(plugin.sample_items)
    require(is_item, f"with latent_dim: {latent_dim} decode gave {describe(x)}")


@check("modality")
def decodes_to_data_space(plugin: ModalityUnderTest) -> None:
    """`decode` gives finite items with the shape and dtype of `preprocess`, not logits."""
    autoencoder = plugin.autoencoder()
    with torch.no_grad():
        x = autoencoder.decode(autoencoder.encode(plugin.sample_items))
    _check_decoded(x, plugin.sample_items)


@check("modality")
def decodes_any_latent(plugin: ModalityUnderTest) -> None:
    """After training, `decode` also accepts latents that `encode` never gave, such as samples."""
    _check_decoded(plugin.generated, plugin.sample_items)


@check("modality")
def loss_is_per_item(plugin: ModalityUnderTest) -> None:
    """`loss` gives one finite number per item."""
    autoencoder = plugin.autoencoder()
    with torch.no_grad():
        loss = autoencoder.loss(autoencoder.encode(plugin.sample_items), plugin.sample_items)
    require(
        tuple(loss.shape) == (NUM_ITEMS,) and loss.is_floating_point(),
        f"loss gave {describe(loss)} for {NUM_ITEMS} items: return one per item, do not "
        "average over the batch",
    )
    require(is_finite(loss), "the loss of an example is NaN or infinite")


@check("modality")
def loss_differentiable(plugin: ModalityUnderTest) -> None:
    """`loss` has a finite, non-zero gradient with respect to the latent that it is given."""
    autoencoder = plugin.autoencoder()
    with torch.no_grad():
        z = autoencoder.encode(plugin.sample_items)
    noise = torch.randn(z.shape, generator=Generator().manual_seed(SEED))
    z = (z + 0.1 * noise).requires_grad_()
    loss = autoencoder.loss(z, plugin.sample_items).sum()
    require(loss.requires_grad, "the loss does not depend on z: compute it from z, not from x")
    (gradient,) = torch.autograd.grad(loss, z, allow_unused=True)
    require(
        gradient is not None and bool(gradient.ne(0).any(1).all()),
        "the loss of an item does not change with its z: compute it from z, not from x",
    )
    require(is_finite(gradient), "the gradient of the loss with respect to z is not finite")


@check("modality")
def autoencoder_learns(plugin: ModalityUnderTest) -> None:
    """200 training steps lower the loss of held-out items."""
    untrained = plugin.autoencoder()
    if not is_trainable(untrained):
        raise CheckSkipped("the autoencoder has no trainable parameters and is used as it is")
    before = _held_out_losses(untrained, plugin)
    after = _held_out_losses(plugin.trained_autoencoder, plugin)
    require(is_finite(after), "the loss is NaN or infinite after 200 steps")
    require(
        _mean_is_positive(before - after),
        f"200 steps took the mean loss of held-out items from {before.mean():.4g} to "
        f"{after.mean():.4g}: check that the loss trains encode and decode, and its scale",
    )


@check("modality")
def reference_decides_weights(plugin: ModalityUnderTest) -> None:
    """An autoencoder with a `reference` has the same weights every time, none of them trainable."""
    first, second = plugin.autoencoder(1), plugin.autoencoder(2)
    if first.reference is None:
        raise CheckSkipped("the autoencoder has no reference: a run stores its weights")
    require(not is_trainable(first), "an autoencoder with a reference has trainable parameters")
    same = digest(first.reference) == digest(second.reference or {})
    require(same, "two autoencoders have different references: return names, revisions, digests")
    weights = second.state_dict()
    require(
        all(torch.equal(value, weights[key]) for key, value in first.state_dict().items()),
        "two autoencoders with the same reference have different weights: a run stores only the "
        "reference, so read all weights from it",
    )


@check("modality")
def latent_identifies_item(plugin: ModalityUnderTest) -> None:
    """After training, an item is more likely given its own latent than given another's."""
    matched = _held_out_losses(plugin.trained_autoencoder, plugin)
    mismatched = _held_out_losses(plugin.trained_autoencoder, plugin, shift=1)
    require(
        _mean_is_positive(mismatched - matched),
        f"the mean loss of held-out items is {matched.mean():.4g} with their own latents and "
        f"{mismatched.mean():.4g} with others': the latent carries no information on the item",
    )


def _check_decoded(x: Tensor, items: Tensor) -> None:
    seen, expected = describe(x), describe(items)
    require(seen == expected, f"decode gave {seen}, but items are {expected}: decode to data space")
    require(is_finite(x), "decode gave NaN or infinity")


@torch.no_grad()
def _held_out_losses(autoencoder: Autoencoder, plugin: ModalityUnderTest, shift: int = 0) -> Tensor:
    """The loss of each held-out item, given the latent of the item `shift` rows before it."""
    x = plugin.items["test"]
    return autoencoder.loss(autoencoder.encode(x).roll(shift, 0), x).double()


def _mean_is_positive(values: Tensor) -> bool:
    """Whether the mean is above 0 by more than chance."""
    return bool(values.mean() > MIN_Z * (values.std() / len(values) ** 0.5))
