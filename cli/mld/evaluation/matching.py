"""The judge of pairs: whether items of two modalities belong together, learnt without labels.

A tower for each modality, the feature network of its classifier, and for each of its partners a
linear projection onto unit vectors; what two items have in common is the inner product of theirs.
All pairs are trained at once on training rows, by the symmetric InfoNCE loss with a temperature
for each pair (CLIP; Radford et al. 2021, section 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from pydantic import JsonValue
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from mld.config.sections import EvaluateSpec
from mld.data.encoding import batches
from mld.data.loading import Data, SplitRows
from mld.data.packed_items import Items
from mld.evaluation.judges import Judges, Pair
from mld.evaluation.ranking import codes_of
from mld.runtime.compute import device_of, place
from mld.runtime.context import RunContext
from mld.storage.stages import EVALUATE, MATCH_JOB
from mld.training.cached import train_cached
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.modality_networks import classifier_key
from mld_core import Classifier, Modality

EMBEDDING_DIM = 64
INITIAL_SCALE = 1 / 0.07
"""The factor of inner products before training, the inverse of a temperature; that of CLIP."""
MAX_SCALE = 100.0
"""The greatest factor of inner products; that of CLIP."""
UNUSED_CLASSES = 2
"""Classes of a tower's classifier, whose logits are not used."""

PATIENCE = 5
"""Validations in a row without a lower loss, after which the training ends, by default."""


class MatchingJudge(nn.Module):
    """Embeds items of each modality once for each partner, as unit vectors.

    Args:
        towers: by modality; parameters that their features do not use must be frozen.
        widths: of the features, by modality.
        pairs: modalities in the order of `towers`.
    """

    def __init__(
        self, towers: Mapping[str, Classifier], widths: Mapping[str, int], pairs: Sequence[Pair]
    ) -> None:
        super().__init__()
        self.names = list(towers)
        self.pairs = list(pairs)
        self.partners = {
            name: [a if b == name else b for a, b in pairs if name in (a, b)] for name in towers
        }
        self.towers = nn.ModuleList(towers.values())
        self.projections = nn.ModuleList(
            nn.Linear(widths[name], EMBEDDING_DIM * len(self.partners[name])) for name in towers
        )
        self.log_scale = nn.Parameter(torch.full((len(pairs),), math.log(INITIAL_SCALE)))

    def embed(self, name: str, x: Shaped[Tensor, " row *item"]) -> Float[Tensor, "partner row dim"]:
        """The embeddings of items of a modality, for its partners in the order of `partners`."""
        projection = self.projections[self.names.index(name)]
        features: Tensor = projection(self.tower(name).features(x))
        parts = features.float().unflatten(1, (len(self.partners[name]), EMBEDDING_DIM))
        return normalize(parts.movedim(1, 0), dim=2)

    def tower(self, name: str) -> Classifier:
        """The feature network of a modality."""
        tower = self.towers[self.names.index(name)]
        assert isinstance(tower, Classifier)
        return tower

    @torch.no_grad()
    def embed_all(
        self, name: str, x: Shaped[Tensor, " row *item"] | Items
    ) -> dict[str, Float[Tensor, "row dim"]]:
        """The embeddings of any number of items by partner."""
        parts = batches(x, device_of(self), f"embed {name}")
        embedded = torch.cat([self.embed(name, part).cpu() for part in parts], 1)
        return dict(zip(self.partners[name], embedded, strict=True))

    def pair_losses(
        self,
        embeddings: Mapping[str, Float[Tensor, "partner row dim"]],
        present: Bool[Tensor, "row modality"],
        codes: Int64[Tensor, "row modality"],
    ) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
        """The mean InfoNCE loss of each pair in nats, and of how many rows it is.

        A row without both items of a pair is neither a query nor a candidate of it, and no item
        is a candidate of a row that has an equal one, or whose other item is equal.

        Args:
            codes: equal for equal items of a modality.
        """
        a, b = (self._side(embeddings, side) for side in (0, 1))
        first, second = self._columns(0), self._columns(1)
        both = (present[:, first] & present[:, second]).mT
        unequal = [
            codes.mT[columns, :, None] != codes.mT[columns, None] for columns in (first, second)
        ]
        allowed = both[:, :, None] & both[:, None] & unequal[0] & unequal[1]
        allowed |= torch.eye(len(codes), dtype=torch.bool, device=codes.device)
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)[:, None, None]
        # Products in bfloat16 would be off by more than what tells the best candidates apart.
        with torch.autocast(codes.device.type, enabled=False):
            logits = (scale * (a @ b.mT)).masked_fill(~allowed, -math.inf)
        losses = (_true_partner_losses(logits) + _true_partner_losses(logits.mT)) / 2
        counts = both.sum(1)
        return torch.where(both, losses, 0.0).sum(1) / counts.clamp(min=1), counts.float()

    def _side(
        self, embeddings: Mapping[str, Float[Tensor, "partner row dim"]], side: int
    ) -> Float[Tensor, "pair row dim"]:
        """The embeddings of the first or the second modality of each pair."""
        return torch.stack(
            [
                embeddings[pair[side]][self.partners[pair[side]].index(pair[1 - side])]
                for pair in self.pairs
            ]
        )

    def _columns(self, side: int) -> list[int]:
        """The indices of the first or the second modality of each pair."""
        return [self.names.index(pair[side]) for pair in self.pairs]


def _true_partner_losses(logits: Float[Tensor, "pair row row"]) -> Float[Tensor, "pair row"]:
    """Cross entropy of the diagonal."""
    rows = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
    return cross_entropy(logits.mT, rows, reduction="none")


class MatchingObjective(Objective):
    """The loss of a judge of pairs: the mean over pairs, each of which weighs alike.

    Args:
        modalities: of the judge.
    """

    compiled = "judge.embed"
    warns_if_early = False  # Few pairs are memorised soon: that is why the best weights are kept.

    def __init__(self, modalities: Mapping[str, Modality], judge: MatchingJudge) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.judge = judge

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """In nats per row; the part of a modality is the mean over its pairs."""
        embeddings = {}
        for name, modality in self.modalities.items():
            x = batch[f"x/{name}"]
            if self.training:
                x = modality.augment(x, generator)
            embeddings[name] = self.judge.embed(name, x)
        losses, counts = self.judge.pair_losses(embeddings, batch["present"], batch["codes"])

        def mean_of(indices: list[int]) -> Float[Tensor, ""]:
            """Over those of the pairs that any row has."""
            return losses[indices].sum() / (counts[indices] > 0).sum().clamp(min=1)

        parts = {
            name: mean_of([index for index, pair in enumerate(self.judge.pairs) if name in pair])
            for name in self.modalities
        }
        return mean_of([*range(len(self.judge.pairs))]), parts


def train_judge(
    modalities: Mapping[str, Modality],
    judges: Judges,
    spec: EvaluateSpec,
    data: Data,
    context: RunContext,
) -> tuple[MatchingJudge, dict[str, JsonValue]]:
    """The judge of pairs, and how its training has ended, by name.

    The weights are those with the lowest loss on validation rows, where there are any, and the
    training ends if that falls no more.

    Args:
        judges: with at least one pair, and training rows that have both of its modalities.
    """
    pairs, used = [*judges.pairs], judges.paired(modalities)

    def build() -> MatchingJudge:
        towers, widths = {}, {}
        for name, modality in used.items():
            towers[name] = modality.classifier(UNUSED_CLASSES)
            examples = data.train.items[name].recorded[:2]
            widths[name] = _freeze_unused(towers[name], examples)
        return MatchingJudge(towers, widths, pairs)

    objective = MatchingObjective(used, context.seeded_init(build, EVALUATE.name, MATCH_JOB))
    rows, validation = (_rows(split, used, modalities) for split in (data.train, data.validation))
    key: dict[str, JsonValue] = {
        "modalities": {name: classifier_key(modality) for name, modality in used.items()},
        "pairs": [[*pair] for pair in pairs],
    }
    # Its loss is no mean over rows: the other rows of a batch are the candidates of each.
    config = replace(
        TrainConfig.of_network(spec),
        keep="best",
        micro_batch_size=None,
        patience=spec.patience or (PATIENCE if len(validation["codes"]) else None),
    )
    job = TrainJob(MATCH_JOB, objective, rows, validation, config, key)
    trained = train_cached(job, context)
    objective.load_state_dict(trained.ema or trained.weights)
    judge = place(objective.judge.eval(), context.compute.device)
    return judge, trained.end_of(MATCH_JOB)


def _freeze_unused(tower: Classifier, x: Shaped[Tensor, " row *item"]) -> int:
    """Freeze the parameters that features do not depend on; returns the features' width.

    They would have no gradient, which training on several devices does not allow.
    """
    features = tower.features(x).float()
    trainable = [each for each in tower.parameters() if each.requires_grad]
    gradients: Sequence[Tensor | None] = [None] * len(trainable)
    if features.requires_grad:
        gradients = torch.autograd.grad(features.sum(), trainable, allow_unused=True)
    for parameter, gradient in zip(trainable, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return features.shape[1]


def _rows(
    split: SplitRows, used: Mapping[str, Modality], modalities: Mapping[str, Modality]
) -> dict[str, Tensor | Items]:
    """The rows with at least two of the modalities that are used, as the objective needs them."""
    columns = [[*modalities].index(name) for name in used]
    present = split.present[:, columns]
    usable = present.sum(1) > 1
    items = {name: split.items[name].select(usable) for name in used}
    codes = [codes_of(each.item_digests()) for each in items.values()]
    return {
        **{f"x/{name}": _without_gaps(each) for name, each in items.items()},
        "present": present[usable],
        "codes": torch.stack(codes, 1),
    }


def _without_gaps(items: Items) -> Items:
    """The items with the first recorded one in place of those that are missing, if there is one.

    A tower need not work on the zeros that stand for a missing item.
    """
    recorded = items.place[items.present]
    if not len(recorded):
        return items
    return replace(items, place=torch.where(items.present, items.place, recorded[0]))
