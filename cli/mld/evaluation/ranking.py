"""Ranking of an item among candidates of another modality, no two of which are equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mld.evaluation.group_interval import group_half_width

NUM_CANDIDATES = 100
"""Candidates of a query, the true one among them, where there are so many."""
RANKS = (1, 10)
"""A retrieval "at k" succeeds if the true partner is among the k best candidates."""
RANKED_AT_ONCE = 2**17
"""Candidates, of several queries."""

Codes = Int64[Tensor, " row"]
"""A number for each row, equal for equal items; −1 where a row has no item."""


def codes_of(digests: Iterable[bytes]) -> Codes:
    """The codes of items by their digests, which are b"" where there is none."""
    numbers = {b"": -1}
    return torch.tensor([numbers.setdefault(each, len(numbers) - 1) for each in digests]).long()


@dataclass(frozen=True)
class Candidates:
    """The candidates of each query: rows, of which the first has the true partner.

    Args:
        rows: that have the candidates' items.
        is_drawn: False in places that are to be ignored.
    """

    rows: Int64[Tensor, "query candidate"]
    is_drawn: Bool[Tensor, "query candidate"]

    def rank(
        self, queries: Float[Tensor, "query dim"], partners: Float[Tensor, "row dim"]
    ) -> Retrievals:
        """Rank the candidates of each query by their inner product with it.

        Args:
            queries: embeddings.
            partners: embeddings of all rows.
        """
        better, equal = [], []
        for part in _parts(torch.arange(len(queries)), self.rows.shape[1]):
            scores = (partners[self.rows[part]] @ queries[part, :, None]).squeeze(2)
            true, others, is_drawn = scores[:, :1], scores[:, 1:], self.is_drawn[part, 1:]
            # Written so that a score that is not a number counts as a failure.
            better.append((~(others <= true) & is_drawn).sum(1))
            equal.append(((others == true) & is_drawn).sum(1))
        worst_first, ties = torch.cat(better), torch.cat(equal).double()
        counts = self.is_drawn.sum(1)
        return Retrievals(
            torch.stack([((k - worst_first) / (ties + 1)).clamp(0, 1) for k in RANKS]),
            torch.stack([(k / counts.double()).clamp(max=1) for k in RANKS]),
            int(counts.min()),
        )


def draw_candidates(
    query_codes: Codes, partner_codes: Codes, rows: Int64[Tensor, " query"], seed: int
) -> Candidates:
    """The true partner of each query, which its row has, and up to 99 others.

    The others are different items, none of which any row has beside an item that equals the
    query's: such an item is a true partner, too. They are those that follow in a random cyclic
    order of the different items, so that each is as likely as any other.

    Args:
        query_codes: of the items whose partners are sought.
        partner_codes: of the candidates.
        rows: the row of each query, at least one; all have a partner.
        seed: of the order.
    """
    recorded = (partner_codes >= 0).nonzero().flatten()
    distinct, places = partner_codes[recorded].unique(return_inverse=True)
    count = len(distinct)
    first_rows = torch.full((count,), len(partner_codes))
    first_rows = first_rows.scatter_reduce(0, places, recorded, "amin")
    place_of_row = torch.full((len(partner_codes),), -1).index_copy(0, recorded, places)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    position = order.argsort()
    paired = recorded[query_codes[recorded] >= 0]
    pairs = (query_codes[paired] * count + place_of_row[paired]).unique()
    # So many of those that follow may be true partners themselves.
    most_partners = int((pairs // count).bincount().max()) if len(pairs) else 0
    width = min(count, NUM_CANDIDATES + most_partners)
    candidates, is_drawn = [], []
    for part in _parts(rows, width):
        start = position[place_of_row[part]]
        following = order[(start[:, None] + torch.arange(width)) % count]
        codes = query_codes[part, None]
        usable = (codes < 0) | ~torch.isin(codes * count + following, pairs)
        usable[:, 0] = True
        candidates.append(first_rows[following])
        is_drawn.append(usable & (usable.cumsum(1) <= NUM_CANDIDATES))
    return Candidates(torch.cat(candidates), torch.cat(is_drawn))


def _parts(queries: Int64[Tensor, " query"], width: int) -> Iterator[Int64[Tensor, " part"]]:
    """The queries in parts with so many candidates as are ranked at once."""
    yield from queries.split(max(1, RANKED_AT_ONCE // width))


@dataclass(frozen=True)
class Retrievals:
    """The outcome of queries.

    Args:
        successes: the probability of success at each of `RANKS`, between 0 and 1 only where
            candidates tie, whose order is random.
        chance: likewise if the order of all candidates is random.
        candidates: the least number of a query.
    """

    successes: Float[Tensor, "rank query"]
    chance: Float[Tensor, "rank query"]
    candidates: int

    @classmethod
    def mean(cls, several: Sequence[Retrievals]) -> Retrievals:
        """The mean for each query, of several retrievals by the same queries."""
        return cls(
            torch.stack([each.successes for each in several]).mean(0),
            torch.stack([each.chance for each in several]).mean(0),
            min(each.candidates for each in several),
        )

    def proportions(self) -> dict[str, Any]:
        """The proportion of successes at each rank, with its 95 % interval."""
        return {
            f"at_{k}": _proportion(successes)
            for k, successes in zip(RANKS, self.successes, strict=True)
        }

    def mean_chance(self) -> dict[str, float]:
        """The proportion of successes at each rank if all orders are random."""
        means = self.chance.mean(1).tolist()
        return {f"at_{k}": mean for k, mean in zip(RANKS, means, strict=True)}


def _proportion(successes: Float[Tensor, " query"]) -> dict[str, Any]:
    """A mean with its 95 % interval between 0 and 1, where `group_half_width` has one."""
    n, value = len(successes), float(successes.mean())
    half_width = group_half_width(lambda rows: float(successes[rows].mean()), n)
    if half_width is None:
        return {"value": value, "low": None, "high": None, "n": n}
    low, high = max(value - half_width, 0.0), min(value + half_width, 1.0)
    return {"value": value, "low": low, "high": high, "n": n}


def mean_proportion(proportions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean of proportions; their rows differ, so that n is the least. None of none.

    They share rows: the interval is that if they all err together, the widest, and None where one
    has none.
    """
    if not proportions:
        return None
    ends = {end: [each[end] for each in proportions] for end in ("value", "low", "high")}
    means: dict[str, Any] = {
        end: None if None in values else fmean(values) for end, values in ends.items()
    }
    return means | {"n": min(each["n"] for each in proportions)}
