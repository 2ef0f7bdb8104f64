"""Retrieval: whether samples match what they were given, by a judge that needs no classes.

As R-precision for text and pictures (Xu et al. 2018, AttnGAN, section 4), for each pair: a sample
of G that was given the O of a row is compared with this O and with 99 others, all of them real, and
should match the given one best. Real items and reconstructions of G in place of samples are
compared with the same candidates, and show what the judge can tell apart at best. The items of a
joint sample are compared with each other and those of other joint samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from mld.data.loading import SplitRows
from mld.data.packed_items import Items
from mld.data.types import SubsetSamples
from mld.evaluation.evaluator import ModalityEvaluator
from mld.evaluation.matching import MatchingJudge
from mld.evaluation.ranking import (
    NUM_CANDIDATES,
    RANKS,
    Retrievals,
    codes_of,
    draw_candidates,
    mean_proportion,
)
from mld.runtime.progress import with_progress
from mld.runtime.seeds import derive
from mld.storage.digests import tensor_digest

Embedded = Mapping[str, Float[Tensor, "row dim"]]
"""The embeddings of items of a modality, by partner."""
Direction = tuple[str, str]
"""The modality of a query, and that of its candidates."""


class RetrievalTable:
    """Retrieval of real partners by a run's samples, beside that by real items.

    Args:
        judge: of the pairs that are measured.
        evaluators: by modality.
        rows: of the evaluated split.
        samples: by conditioning subset, none of them empty.
        items: the first samples of each, decoded, by what they were given.
        seed: of the candidates.
    """

    def __init__(
        self,
        judge: MatchingJudge,
        evaluators: Mapping[str, ModalityEvaluator],
        rows: SplitRows,
        samples: Sequence[SubsetSamples],
        items: Mapping[tuple[str, ...], Mapping[str, Shaped[Tensor, " sample *item"]]],
        seed: int,
    ) -> None:
        self.judge = judge
        self.evaluators = evaluators
        self.rows = rows
        self.samples = samples
        self.items = items
        self.seed = seed
        self.codes = {name: codes_of(rows.items[name].item_digests()) for name in judge.names}
        self._real = cache(self._embed_real)
        self._reconstructed = cache(self._embed_reconstructions)

    def as_json(self) -> dict[str, Any]:
        """All scores, in the shape of `retrieval` in metrics.json."""
        pairs, joint = self._joint()
        return {
            "candidates": NUM_CANDIDATES,
            "joint": joint,
            "pairs": pairs,
            "conditional": [*self._conditional()],
        }

    def warnings(self) -> Iterator[str]:
        """What a reader must know to interpret the scores."""
        counts = {name: len(codes[codes >= 0].unique()) for name, codes in self.codes.items()}
        few = [f"{count} of {name}" for name, count in counts.items() if count < NUM_CANDIDATES]
        if few:
            yield (
                f"Retrieval has fewer than {NUM_CANDIDATES} candidates, since the evaluated rows "
                f"have so many different items: {', '.join(few)}."
            )
        for a, b in self.judge.pairs:
            real = self._retrieve_all([(a, b), (b, a)], self._real, self._is_recorded([a, b]))
            if real is None:
                yield f"No evaluated row has both {a} and {b}: their retrieval has no ceiling."
                continue
            at_1, chance = real.proportions()["at_1"], real.mean_chance()["at_1"]
            if (at_1["value"] if at_1["low"] is None else at_1["low"]) <= chance:
                yield (
                    f"Retrieval says nothing about {a} with {b}: the judge does not match even "
                    f"real held-out items better than chance ({at_1['value']:.3f} at 1). More "
                    "training rows or evaluate.steps may help."
                )

    def _conditional(self) -> Iterator[dict[str, Any]]:
        """Of samples of each target, the mean over what they were given."""
        for subset in with_progress("retrieval", self.samples, "subsets"):
            for target, x in self.items[subset.given].items():
                directions = [(target, name) for name in subset.given if self._judges(target, name)]
                if directions:
                    embedded = self._embed(target, x)
                    retrievals = [
                        self._retrieve(direction, subset.rows, embedded[direction[1]])
                        for direction in directions
                    ]
                    yield {
                        "given": [*subset.given],
                        "target": target,
                        **_scores(Retrievals.mean(retrievals)),
                        **self._ceilings(directions),
                    }

    def _joint(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Of each pair of joint samples, in both directions, and the mean over all pairs."""
        items = self.items.get((), {})
        pairs = [pair for pair in combinations(items, 2) if self._judges(*pair)]
        if not pairs:
            return [], None
        names = [name for name in items if any(name in pair for pair in pairs)]
        embedded = {name: self._embed(name, items[name]) for name in names}
        codes = {
            name: codes_of(tensor_digest(x).encode() for x in items[name].cpu()) for name in names
        }
        entries, retrievals = [], []
        for pair in pairs:
            directions = [pair, pair[::-1]]
            both = []
            for a, b in directions:
                seed = derive(self.seed, "evaluate", "joint candidates", a, b)
                candidates = draw_candidates(codes[a], codes[b], torch.arange(len(codes[a])), seed)
                both.append(candidates.rank(embedded[a][b], embedded[b][a]))
            retrievals.append(Retrievals.mean(both))
            scores = _scores(retrievals[-1])
            entries.append({"modalities": [*pair], **scores, **self._ceilings(directions)})
        ceilings = {
            name: _mean_proportions([entry[name] for entry in entries if entry[name]])
            for name in ("real", "reconstructions")
        }
        return entries, {**_scores(Retrievals.mean(retrievals)), **ceilings}

    def _ceilings(self, directions: Sequence[Direction]) -> dict[str, Any]:
        """The mean over directions, of real items and of reconstructions in place of samples.

        Of all rows that have them; None where there is none.
        """
        names = {name for direction in directions for name in direction}
        recorded = self._is_recorded(names)
        decoded = recorded.clone()
        for name in names:
            decoded &= self._has_reconstruction(name)
        retrievals = {
            "real": self._retrieve_all(directions, self._real, recorded),
            "reconstructions": self._retrieve_all(directions, self._reconstructed, decoded),
        }
        return {name: each and each.proportions() for name, each in retrievals.items()}

    def _retrieve_all(
        self,
        directions: Sequence[Direction],
        embedded: Callable[[str], Embedded],
        usable: Bool[Tensor, " row"],
    ) -> Retrievals | None:
        """The mean over directions, of queries by the usable rows; None without any."""
        rows = usable.nonzero().flatten()
        if not len(rows):
            return None
        return Retrievals.mean(
            [self._retrieve((g, o), rows, embedded(g)[o][rows]) for g, o in directions]
        )

    def _retrieve(
        self,
        direction: Direction,
        rows: Int64[Tensor, " query"],
        queries: Float[Tensor, "query dim"],
    ) -> Retrievals:
        """The real partner of each row, by a query in place of the row's other item.

        The candidates of a row are the same whatever the queries are.
        """
        a, b = direction
        seed = derive(self.seed, "evaluate", "candidates", a, b)
        candidates = draw_candidates(self.codes[a], self.codes[b], rows, seed)
        return candidates.rank(queries, self._real(b)[a])

    def _judges(self, a: str, b: str) -> bool:
        return b in self.judge.partners.get(a, ())

    def _is_recorded(self, names: Iterable[str]) -> Bool[Tensor, " row"]:
        """Which rows have an item of each."""
        return torch.stack([self.codes[name] >= 0 for name in names]).all(0)

    def _has_reconstruction(self, name: str) -> Bool[Tensor, " row"]:
        has_one = torch.zeros(len(self.rows.ids)).bool()
        return has_one.index_fill(0, self.evaluators[name].rows, True)

    def _embed(self, name: str, x: Shaped[Tensor, " row *item"] | Items) -> Embedded:
        return self.judge.embed_all(name, x)

    def _embed_real(self, name: str) -> Embedded:
        """Of all rows of the split; arbitrary where a row has no item."""
        items = self.rows.items[name]
        return _placed(self._embed(name, items.recorded), items.present)

    def _embed_reconstructions(self, name: str) -> Embedded:
        """Of all rows of the split; arbitrary where there is none."""
        embedded = self._embed(name, self.evaluators[name].reconstructions)
        return _placed(embedded, self._has_reconstruction(name))


def _placed(embedded: Embedded, has_one: Bool[Tensor, " row"]) -> Embedded:
    """Embeddings of some rows in the places of these among all rows."""
    place = (has_one.cumsum(0) - 1).clamp(min=0)
    return {partner: vectors[place] for partner, vectors in embedded.items()}


def _scores(retrievals: Retrievals) -> dict[str, Any]:
    """The scores of samples, with those of chance and the least number of candidates."""
    return {
        **retrievals.proportions(),
        "chance": retrievals.mean_chance(),
        "candidates": retrievals.candidates,
    }


def _mean_proportions(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The means of proportions at each rank; None of none."""
    if not entries:
        return None
    ranks = (f"at_{k}" for k in RANKS)
    return {rank: mean_proportion([entry[rank] for entry in entries]) for rank in ranks}
