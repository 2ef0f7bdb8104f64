"""Checks of a modality among others: with cells missing, and in a joint model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from mld.config.sections import DiffuseSpec, ResidualMLPSpec
from mld.conformance.check import check, demand
from mld.conformance.fixtures import CLASSES, ROWS, SEED, ModalitySubject, form, learn, rng, seeded
from mld.data.columns import PresentItems, open_split
from mld.data.encoding import encode
from mld.data.items import write_item
from mld.data.loading import Data
from mld.pipeline.autoencode import ReconstructionObjective
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld.runtime.seeds import derive
from mld_core import Dataset, DatasetConfig, Modality, Split, SplitName
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.sampling import ScoreModel, sample_latents
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

NAMES = ("left", "right")
SECONDS = 20.0
"""Processor time that the joint model may take to train, with its autoencoders."""

DIFFUSION = DiffuseSpec(network=ResidualMLPSpec(width=128, depth=2), steps=400, batch_size=64)
SAMPLED = 100
SPREAD = 3.0
"""By which factor the spread of generated latents may differ from that of encoded ones."""


class _Gaps(Dataset):
    """Rows of which one modality has every cell, and the other every second one, or none."""

    kind = "gaps"
    Config = DatasetConfig
    columns: ClassVar = dict.fromkeys(NAMES, "any")
    classes = tuple(map(str, range(CLASSES)))

    def __init__(self, modalities: Mapping[str, Modality], raw: Sequence[Any]) -> None:
        super().__init__(DatasetConfig(), modalities, SEED)
        self._raw = raw

    def split(self, name: SplitName) -> Split:
        gaps = [raw if name == "train" and row % 2 else None for row, raw in enumerate(self._raw)]
        ids = [f"{name}-{row}" for row in range(len(self._raw))]
        labels = [row // 2 % CLASSES for row in range(len(self._raw))]
        return Split(ids, {"left": self._raw, "right": gaps}, labels)


@check("modality")
def works_with_missing_items(subject: ModalitySubject) -> None:
    """Rows with missing cells are fitted, loaded and coded; what is there comes through whole."""
    raw = [one for one in subject.raw["train"][: 4 * CLASSES] for _ in NAMES]
    unfitted = {name: subject.plugin_class(subject.config) for name in NAMES}
    split = open_split(_Gaps(unfitted, raw), "train", NAMES)
    fitted = {
        name: subject.plugin_class(
            subject.config,
            subject.plugin_class.fit(subject.config, PresentItems(split, name, "gaps")),
        )
        for name in NAMES
    }
    data = Data(_Gaps(fitted, raw), fitted)
    train, test = data.train, data.test
    half = torch.arange(len(raw)) % 2 == 1
    wanted = torch.stack([fitted["right"].preprocess(raw[row]) for row in half.nonzero()[:, 0]])
    came = train.items["right"]
    demand(
        torch.equal(train.present[:, 1], half) and torch.equal(came[half], wanted),
        "items of rows in between which others are missing came out other than they went in",
    )
    demand(not bool(came[~half].any()), "a missing item is not left at zero")
    demand(
        form(test.items["right"][0]) == form(wanted[0]) and not bool(test.present[:, 1].any()),
        "a split without a single item of the modality is not of the form of the others",
    )
    autoencoder = seeded(fitted["right"].autoencoder).eval()
    none = encode(autoencoder, test.items["right"][:0], subject.config.latent_dim)
    z = encode(autoencoder, came[half], subject.config.latent_dim)
    demand(none.shape[1] == z.shape[1] and bool(z.isfinite().all()), "latents are not finite")
    objective = ReconstructionObjective("right", fitted["right"], autoencoder).train()
    loss, _ = objective({"x": came[half][:1]}, Generator().manual_seed(SEED))
    demand(bool(loss.isfinite()), "the loss of a batch of one item is not finite")


@check("modality", slow=True)
def joint_model_generates_any_from_any(subject: ModalitySubject) -> None:
    """With itself or another it trains a joint model in 20 s, which generates any subset."""
    sides = dict(zip(NAMES, (subject, subject.partner), strict=True))
    began = time.process_time()
    items = {name: _drawn(side, "train", name) for name, side in sides.items()}
    coders = {name: side.learn(items[name], 200, name) for name, side in sides.items()}
    layout = LatentLayout({name: side.config.latent_dim for name, side in sides.items()})
    model = _trained(layout, {n: encode(coders[n], x, layout.dims[n]) for n, x in items.items()})
    taken = time.process_time() - began
    demand(
        taken <= SECONDS,
        f"200 steps of each autoencoder and {DIFFUSION.steps} of the joint model took "
        f"{taken:.0f} s of processor time, allowed are {SECONDS:g}: make the default networks "
        "smaller",
    )
    test = {name: _drawn(side, "test", name) for name, side in sides.items()}
    for given in conditioning_subsets(NAMES):
        observed = {n: encode(coders[n], test[n][:SAMPLED], layout.dims[n]).float() for n in given}
        wanted = [name for name in NAMES if name not in given]
        seeds = [derive(SEED, "sample", *given, row) for row in range(SAMPLED)]
        latents = sample_latents(model, observed, wanted, seeds).latents
        for name in wanted:
            told = f"{name} generated from {' and '.join(given) or 'nothing'}"
            real = encode(coders[name], test[name], layout.dims[name])
            _demand_spread(told, latents[name], real)
            x = _demand_samples(told, coders[name], latents[name], test[name])
            write_item(sides[name].modality, x[0], subject.folder / "+".join([name, *given]))


def _drawn(side: ModalitySubject, split: SplitName, name: str) -> Tensor:
    """Examples of a split as items, other ones for either name."""
    labels = side.labels(split).tolist()
    raw = side.plugin_class(side.config).examples(labels, split, rng(split, name))
    return torch.stack([side.modality.preprocess(one) for one in raw])


def _trained(layout: LatentLayout, latents: Mapping[str, Tensor]) -> ScoreModel:
    z = layout.concatenate(latents)
    present = torch.ones(ROWS["train"], len(NAMES), dtype=torch.bool)
    standardiser = Standardiser.fit(z, present, layout)
    schedule = VPSchedule(DIFFUSION.beta_min, DIFFUSION.beta_max)
    network = seeded(lambda: build_network(DIFFUSION, layout, schedule))
    objective = DenoisingObjective(DIFFUSION, layout, schedule, network)
    rows = {"z": standardiser.standardise(z), "present": present}
    learn(objective, rows, DIFFUSION.steps, DIFFUSION.ema_decay)
    device = torch.device("cpu")
    return ScoreModel(network.eval(), layout, schedule, standardiser, DIFFUSION.roles, device)


def _demand_spread(told: str, z: Tensor, real: Tensor) -> None:
    """Generated latents are about as far apart as encoded ones: the latent can be generated."""
    spread, wanted = (float(latents.var(0).sum().sqrt()) for latents in (z, real))
    demand(wanted > 0, "all held-out items have the same latent")
    demand(
        wanted / SPREAD <= spread <= wanted * SPREAD,
        f"{told} has latents {spread:.3g} apart, and those of items are {wanted:.3g} apart: keep "
        "the latent near a bell curve, without far outliers",
    )


@torch.no_grad()
def _demand_samples(told: str, coder: Any, z: Tensor, like: Tensor) -> Tensor:
    x = coder.decode(z)
    demand(form(x[0]) == form(like[0]), f"{told} is {form(x[0])}, and items are {form(like[0])}")
    finite = not x.is_floating_point() or bool(x.isfinite().all())
    demand(finite, f"{told} holds NaN or infinity")
    demand(bool((x != x[:1]).any()), f"{told} is the same item in all {len(x)} samples")
    return x
