"""Who judges a modality's samples: its classifier, trained here, and its real test items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from pydantic import JsonValue
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from mld.coding import decode, encode
from mld.data import Data
from mld.loop import Objective
from mld.sections import JudgeSpec
from mld.workplace import Workplace, code_digest, tensor_digest
from mld_core import Autoencoder, Classifier, Modality

BATCH = 512


class Classification(Objective):
    """Cross entropy of labelled items, augmented while training."""

    def __init__(self, name: str, modality: Modality, classifier: Classifier) -> None:
        super().__init__()
        self.name = name
        self.modality = modality
        self.classifier = classifier

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The mean over the batch, in nats."""
        x = batch["x"]
        if self.training:
            x = self.modality.augment(x, generator)
        loss = cross_entropy(self.classifier(x).float(), batch["label"])
        return loss, {self.name: loss}


@dataclass(frozen=True)
class Witness:
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


def call_witness(
    name: str,
    modality: Modality,
    autoencoder: Autoencoder,
    spec: JudgeSpec,
    data: Data,
    workplace: Workplace,
) -> Witness:
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
        classifier = _classifier(name, index, modality, spec, data, workplace)
        extractor = tensor_digest(*classifier.state_dict().values())[:12]
    reconstructions = test
    if len(test):
        z = encode(autoencoder, test, modality.config.latent_dim)
        reconstructions = decode(autoencoder, z)
    return Witness(
        classifier,
        autoencoder,
        modality.config.latent_dim,
        extractor,
        test,
        labels,
        reconstructions,
    )


def _classifier(
    name: str, index: int, modality: Modality, spec: JudgeSpec, data: Data, workplace: Workplace
) -> Classifier:
    classifier = workplace.fresh(lambda: modality.classifier(len(data.classes)), "judge", name)
    rows = {}
    for split in ("train", "validation"):
        own = data.rows(split)
        assert own.labels is not None
        use = own.present[:, index] & (own.labels >= 0)
        rows[split] = {"x": own.items[name][use], "label": own.labels[use]}
    objective = Classification(name, modality, classifier)
    key: dict[str, JsonValue] = {
        "kind": modality.kind,
        "config": modality.config.model_dump(mode="json"),
        "facts": dict(modality.facts),
        "code": code_digest(type(modality).__module__),
        "name": name,
        "classes": len(data.classes),
        "items": tensor_digest(rows["train"]["x"], rows["train"]["label"]),
    }
    weights = workplace.trained_once(
        f"classify/{name}", objective, rows["train"], rows["validation"], spec, key
    )
    objective.load_state_dict(weights)
    run_dir = workplace.run_dir
    run_dir.write_tensors(run_dir.classifier(name), classifier.state_dict())
    return classifier.eval()


__all__ = ["Witness", "call_witness"]
