"""Evaluation of one modality's samples: its classifier and its real items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int64, Shaped
from pydantic import JsonValue
from torch import Tensor
from torch.nn.functional import cross_entropy

from mld.config.sections import EvaluateSpec
from mld.data.encoding import batches, decode, encode
from mld.data.loading import Data, SplitRows
from mld.data.packed_items import Items
from mld.runtime.compute import device_of, place
from mld.runtime.context import RunContext
from mld.storage.digests import tensor_digest
from mld.storage.stages import EVALUATE
from mld.training.modality_networks import (
    ModalityObjective,
    classifier_key,
    modality_job,
    train_all,
)
from mld.training.parallel import Trainers
from mld_core import Autoencoder, Classifier, Modality, SplitName

MAX_ITEM_BYTES = 2**27
"""Bytes of a modality's items that samples are evaluated against, in memory at once."""


class ClassificationObjective(ModalityObjective):
    """Cross entropy of labelled items."""

    network: Classifier

    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats per item."""
        return cross_entropy(self.network(x).float(), batch["label"], reduction="none")


@dataclass(frozen=True)
class ModalityEvaluator:
    """A modality's classifier and features, with real items and their reconstructions.

    These are those of all rows, or of the first of them whose items have 128 MiB.

    Args:
        classifier: None without labelled training items.
        feature_network: None if features are latents.
        latent_dim: of the autoencoder.
        extractor: what `features` are, with a hash.
        rows: of the evaluated split that have an item, and are evaluated.
        originals: their items.
        labels: of these, −1 where unknown.
        reconstructions: the same items, encoded and decoded.
    """

    classifier: Classifier | None
    feature_network: Classifier | None
    autoencoder: Autoencoder
    latent_dim: int
    extractor: str
    rows: Int64[Tensor, " row"]
    originals: Shaped[Tensor, " row *item"]
    labels: Int64[Tensor, " row"]
    reconstructions: Shaped[Tensor, " row *item"]

    @property
    def device(self) -> torch.device:
        """Where the modality's networks are, and its metrics are measured."""
        return device_of(self.autoencoder)

    def predict(self, x: Shaped[Tensor, " row *item"]) -> Int64[Tensor, " row"]:
        """The class of each item; only with a classifier."""
        assert self.classifier is not None
        return predicted_classes(self.classifier, x)

    @torch.no_grad()
    def features(self, x: Shaped[Tensor, " row *item"]) -> Float[Tensor, "row feature"]:
        """Of the feature network; without one, the items' latents."""
        network = self.feature_network
        if network is None:
            return encode(self.autoencoder, x, self.latent_dim)
        parts = batches(x, device_of(network), "features")
        return torch.cat([network.features(part).float().cpu() for part in parts])

    @cached_property
    def original_features(self) -> Float[Tensor, "row feature"]:
        """The features of the originals, which every Frechet distance needs."""
        return self.features(self.originals)


@torch.no_grad()
def predicted_classes(
    classifier: Classifier, x: Shaped[Tensor, " row *item"]
) -> Int64[Tensor, " row"]:
    """The class that a classifier predicts of each item."""
    parts = batches(x, device_of(classifier), "classify")
    return torch.cat([classifier(part).argmax(1).cpu() for part in parts])


def build_evaluator(
    name: str,
    modality: Modality,
    autoencoder: Autoencoder,
    classifier: Classifier | None,
    tower: Classifier | None,
    data: Data,
    split: SplitName,
) -> ModalityEvaluator:
    """The evaluator of one modality on a split.

    Args:
        tower: of the judge of pairs; gives the features where there is no classifier.
    """
    items, labels = data.split(split).items[name], data.split(split).labels
    most = max(1, MAX_ITEM_BYTES // max(1, items[:1].nbytes)) if len(items) else 0
    rows = items.present.nonzero().flatten()[:most]
    originals = items[rows]
    feature_network = classifier or tower
    if feature_network is not None:
        extractor = tensor_digest(*feature_network.state_dict().values())[:12]
    else:
        extractor = f"latents of {tensor_digest(*autoencoder.state_dict().values())[:12]}"
    latent_dim = modality.latent_dim
    reconstructions = (
        decode(autoencoder, encode(autoencoder, originals, latent_dim), name)
        if len(originals)
        else originals
    )
    return ModalityEvaluator(
        classifier=classifier,
        feature_network=feature_network,
        autoencoder=autoencoder,
        latent_dim=latent_dim,
        extractor=extractor,
        rows=rows,
        originals=originals,
        labels=torch.full((len(rows),), -1) if labels is None else labels[rows],
        reconstructions=reconstructions,
    )


def train_classifiers(
    modalities: Mapping[str, Modality],
    spec: EvaluateSpec,
    data: Data,
    context: RunContext,
    pool: Trainers | None,
) -> tuple[dict[str, Classifier], dict[str, JsonValue]]:
    """A classifier of each modality, trained on its labelled items; how each ended, by name.

    Args:
        modalities: those that have labelled training items.
    """
    classifiers, jobs = {}, []
    for name, modality in modalities.items():
        rows, validation = (_labelled(split, name) for split in (data.train, data.validation))
        build = partial(modality.classifier, len(data.classes))
        classifier = context.seeded_init(build, EVALUATE.name, name)
        objective = ClassificationObjective(name, modality, classifier)
        classifiers[name] = classifier
        key = classifier_key(modality)
        jobs.append(modality_job(EVALUATE.job, objective, rows, validation, spec, key))
    ends = train_all(jobs, context, pool)
    device = context.compute.device
    return {name: place(classifier, device) for name, classifier in classifiers.items()}, ends


def _labelled(split: SplitRows, name: str) -> dict[str, Tensor | Items]:
    labels = torch.full((len(split.ids),), -1) if split.labels is None else split.labels
    usable = split.items[name].present & (labels >= 0)
    return {"x": split.items[name].select(usable), "label": labels[usable]}
