"""Checks of a modality in the pipeline: with missing items, and in a joint model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from mld.config.sections import DiffuseSpec, ResidualMLPSpec
from mld.conformance.check import check, describe, is_finite, require
from mld.conformance.fixtures import (
    NUM_CLASSES,
    SEED,
    SPLIT_SIZES,
    ModalityUnderTest,
    preprocess_all,
    seeded_init,
    train_in_place,
)
from mld.data.columns import Column, open_split
from mld.data.encoding import encode
from mld.data.items import write_item
from mld.data.loading import Data
from mld.pipeline.autoencode import ReconstructionObjective
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld.runtime.seeds import derive
from mld_core import Autoencoder, Dataset, DatasetConfig, Modality, Split, SplitName
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.sampling import ScoreModel, sample_latents
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

NAMES = ("left", "right")
MAX_TRAINING_SECONDS = 20.0
"""Processor time limit for training the joint model and its autoencoders."""

DIFFUSION = DiffuseSpec(network=ResidualMLPSpec(width=128, depth=2), steps=400, batch_size=64)
NUM_SAMPLES = 100
MAX_SPREAD_RATIO = 3.0
"""Largest ratio, either way, of the spread of generated latents to that of encoded ones."""


class _MissingItems(Dataset):
    """Every item of `left`; of `right` every second in train, and none in the other splits."""

    kind = "missing-items"
    Config = DatasetConfig
    columns: ClassVar = dict.fromkeys(NAMES, "any")
    classes = tuple(map(str, range(NUM_CLASSES)))

    def __init__(self, modalities: Mapping[str, Modality], raw: Sequence[Any]) -> None:
        super().__init__(DatasetConfig(), modalities, SEED)
        self._raw = raw

    def split(self, name: SplitName) -> Split:
        rows = range(len(self._raw))
        right = [self._raw[row] if name == "train" and row % 2 else None for row in rows]
        ids = [f"{name}-{row}" for row in rows]
        labels = [row // 2 % NUM_CLASSES for row in rows]
        return Split(ids, {"left": self._raw, "right": right}, labels)


@check("modality")
def works_with_missing_items(plugin: ModalityUnderTest) -> None:
    """Rows with missing items are fitted, loaded and encoded; present items are unchanged."""
    raw = [datum for datum in plugin.raw["train"][: 4 * NUM_CLASSES] for _ in NAMES]
    unfitted = {name: plugin.plugin_class(plugin.config) for name in NAMES}
    split = open_split(_MissingItems(unfitted, raw), "train", NAMES)
    fitted = {}
    for name in NAMES:
        present = Column(split, "train", name, _MissingItems.kind)
        facts = plugin.plugin_class.fit(plugin.config, present)
        fitted[name] = plugin.plugin_class(plugin.config, facts)
    data = Data(_MissingItems(fitted, raw), fitted)
    train, test = data.train, data.test
    is_present = torch.arange(len(raw)) % 2 == 1
    expected = preprocess_all(fitted["right"], raw[1::2])
    items = train.items["right"]
    require(
        torch.equal(train.present[:, 1], is_present) and torch.equal(items[is_present], expected),
        "items changed when rows with missing items were loaded",
    )
    require(not bool(items[~is_present].any()), "a missing item is not stored as zeros")
    require(
        describe(test.items["right"][0]) == describe(expected[0])
        and not bool(test.present[:, 1].any()),
        "a split without any item of the modality has another item shape than the others",
    )
    autoencoder = seeded_init(fitted["right"].autoencoder).eval()
    no_latents = encode(autoencoder, test.items["right"][:0], fitted["right"].latent_dim)
    z = encode(autoencoder, items[is_present], fitted["right"].latent_dim)
    require(no_latents.shape[1] == z.shape[1] and is_finite(z), "latents are not finite")
    objective = ReconstructionObjective("right", fitted["right"], autoencoder).train()
    loss, _ = objective({"x": items[is_present][:1]}, Generator().manual_seed(SEED))
    require(is_finite(loss), "the loss of a batch of one item is not finite")


@check("modality", slow=True)
def joint_model_generates_any_from_any(plugin: ModalityUnderTest) -> None:
    """A joint model with itself or a partner trains in 20 s and generates any subset."""
    sides = dict(zip(NAMES, (plugin, plugin.partner or plugin), strict=True))
    start = time.process_time()
    items = {name: _example_items(side, "train", name) for name, side in sides.items()}
    autoencoders = {name: side.train_autoencoder(items[name], name) for name, side in sides.items()}
    layout = LatentLayout({name: side.modality.latent_shape for name, side in sides.items()})

    def encoded(name: str, x: Tensor) -> Tensor:
        return encode(autoencoders[name], x, layout.dims[name])

    model = _train_joint_model(layout, {name: encoded(name, x) for name, x in items.items()})
    seconds = time.process_time() - start
    require(
        seconds <= MAX_TRAINING_SECONDS,
        f"200 steps of each autoencoder and {DIFFUSION.steps} of the joint model took "
        f"{seconds:.0f} s of processor time (limit {MAX_TRAINING_SECONDS:g} s): make the default "
        "networks smaller",
    )
    test = {name: _example_items(side, "test", name) for name, side in sides.items()}
    for given in conditioning_subsets(NAMES):
        observed = {name: encoded(name, test[name][:NUM_SAMPLES]).float() for name in given}
        wanted = [name for name in NAMES if name not in given]
        seeds = [derive(SEED, "sample", *given, row) for row in range(NUM_SAMPLES)]
        latents = sample_latents(model, observed, wanted, seeds).latents
        for name in wanted:
            request = f"{name} generated from {' and '.join(given) or 'nothing'}"
            _check_spread(request, latents[name], encoded(name, test[name]))
            x = _decode_samples(request, autoencoders[name], latents[name], test[name])
            write_item(sides[name].modality, x[0], plugin.folder / "+".join([name, *given]))


def _example_items(plugin: ModalityUnderTest, split: SplitName, name: str) -> Tensor:
    """Examples of a split as items, different ones for each name."""
    return plugin.more_items(plugin.labels(split).tolist(), split, split, name)


def _train_joint_model(layout: LatentLayout, latents: Mapping[str, Tensor]) -> ScoreModel:
    z = layout.concatenate(latents)
    present = torch.ones(SPLIT_SIZES["train"], len(NAMES), dtype=torch.bool)
    standardiser = Standardiser.fit(z, present, layout)
    schedule = VPSchedule(DIFFUSION.beta_min, DIFFUSION.beta_max)
    network = seeded_init(lambda: build_network(DIFFUSION, layout, schedule))
    objective = DenoisingObjective(DIFFUSION, layout, schedule, network)
    rows = {"z": standardiser.standardise(z), "present": present}
    train_in_place(objective, rows, DIFFUSION.steps, DIFFUSION.ema_decay)
    device = torch.device("cpu")
    return ScoreModel(network.eval(), layout, schedule, standardiser, DIFFUSION.roles, device)


def _check_spread(request: str, generated: Tensor, encoded: Tensor) -> None:
    """Generated latents must have about the spread (root of the total variance) of encoded ones."""
    spread, expected = (float(z.var(0).sum().sqrt()) for z in (generated, encoded))
    require(expected > 0, "all held-out items have the same latent")
    require(
        expected / MAX_SPREAD_RATIO <= spread <= expected * MAX_SPREAD_RATIO,
        f"{request}: the latents have a spread of {spread:.3g}, and those of items {expected:.3g}: "
        "keep latents approximately Gaussian, without far outliers",
    )


@torch.no_grad()
def _decode_samples(request: str, autoencoder: Autoencoder, z: Tensor, items: Tensor) -> Tensor:
    x = autoencoder.decode(z)
    seen, expected = describe(x[0]), describe(items[0])
    require(seen == expected, f"{request}: decode gave {seen}, but items are {expected}")
    require(is_finite(x), f"{request}: decode gave NaN or infinity")
    require(bool((x != x[:1]).any()), f"{request}: all {len(x)} samples are the same item")
    return x
