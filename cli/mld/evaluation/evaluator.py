"""Who judges a modality's samples: its classifier, trained here, and its real test items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.nn.functional import cross_entropy

from mld.config.sections import EvaluateSpec
from mld.data.encoding import decode, encode
from mld.data.loading import Data
from mld.runtime.context import RunContext
from mld.storage.digests import tensor_digest
from mld.training.modality_networks import ModalityObjective, ModalityTraining
from mld_core import Autoencoder, Classifier, Modality

BATCH = 512


class Classification(ModalityObjective):
    """Cross entropy of labelled items."""

    network: Classifier

    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats per item."""
        return cross_entropy(self.network(x).float(), batch["label"], reduction="none")


@dataclass(frozen=True)
class ModalityEvaluator:
    """What one modality's items are judged by, and how its real test items fare.

    Args:
        predict: items to class indices; None without labels.
        features: items to the space of the Frechet distance.
        extractor: what the features are, with its hash.
        test: the recorded test items, `labels` beside them, −1 where unknown.
        reconstructions: the same items through the autoencoder.
        index: the modality's column in `present`.
    """

    classifier: Classifier | None
    autoencoder: Autoencoder
    latent_dim: int
    extractor: str
    test: Shaped[Tensor, " row *item"]
    labels: Int64[Tensor, " row"]
    reconstructions: Shaped[Tensor, " row *item"]

    @torch.no_grad()
    def predict(self, x: Shaped[Tensor, " row *item"]) -> Int64[Tensor, " row"]:
        """The class that each item shows; only with labels."""
        assert self.classifier is not None
        return torch.cat([self.classifier(part).argmax(1) for part in x.split(BATCH)])

    @torch.no_grad()
    def features(self, x: Shaped[Tensor, " row *item"]) -> Float[Tensor, "row feature"]:
        """The classifier's features; without labels the latents of the items, encoded again."""
        if self.classifier is None:
            return encode(self.autoencoder, x, self.latent_dim)
        return torch.cat([self.classifier.features(part).float() for part in x.split(BATCH)])


def build_evaluator(
    name: str,
    modality: Modality,
    autoencoder: Autoencoder,
    spec: EvaluateSpec,
    data: Data,
    context: RunContext,
) -> ModalityEvaluator:
    """The witness of one modality, its classifier trained if there are labels."""
    index = list(data.test.items).index(name)
    recorded = data.test.present[:, index]
    test = data.test.items[name][recorded]
    labels = data.test.labels
    labels = torch.full((len(test),), -1) if labels is None else labels[recorded]
    classifier, extractor = (
        None,
        f"latents of {tensor_digest(*autoencoder.state_dict().values())[:12]}",
    )
    if data.classes:
        classifier = _classifier(name, index, modality, spec, data, context)
        extractor = tensor_digest(*classifier.state_dict().values())[:12]
    reconstructions = test
    if len(test):
        z = encode(autoencoder, test, modality.config.latent_dim)
        reconstructions = decode(autoencoder, z)
    return ModalityEvaluator(
        classifier,
        autoencoder,
        modality.config.latent_dim,
        extractor,
        test,
        labels,
        reconstructions,
    )


def _classifier(
    name: str, index: int, modality: Modality, spec: EvaluateSpec, data: Data, context: RunContext
) -> Classifier:
    classifier = context.fresh(lambda: modality.classifier(len(data.classes)), "judge", name)
    rows = {}
    for split in ("train", "validation"):
        own = data.split(split)
        assert own.labels is not None
        use = own.present[:, index] & (own.labels >= 0)
        rows[split] = {"x": own.items[name][use], "label": own.labels[use]}
    apprentice = Classification(name, modality, classifier)
    ModalityTraining("classify", apprentice, rows["train"], rows["validation"], spec).take(context)
    run_dir = context.run_dir
    run_dir.write_tensors(run_dir.classifier(name), classifier.state_dict())
    return classifier
