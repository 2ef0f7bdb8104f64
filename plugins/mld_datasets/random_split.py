"""Random splits of rows, such that no two splits share a file or a key."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain

import numpy as np

from mld_core import SPLITS, SplitName

HeldOutShares = Mapping[SplitName, float]
"""The shares of rows that are in the validation and test splits."""


def draw_splits(
    rows: int, links: Sequence[tuple[int, Hashable]], shares: HeldOutShares, seed: int
) -> list[SplitName]:
    """The split of each row: about the given shares in validation and test, the rest in train.

    `links` are pairs of a row and what it shares with others, such as the identity of a file. Rows
    that are linked, directly or through other rows, form a group and are in one split. Each split
    with a share has a row where there are enough groups; with fewer, all rows are in train.
    """
    groups = _groups(rows, links)
    splits: list[SplitName] = ["train"] * rows
    capacity = {
        name: max(math.floor(rows * share + 1e-9), 1) for name, share in shares.items() if share
    }
    if len(groups) <= len(capacity):
        return splits
    drawn: dict[SplitName, list[list[int]]] = {name: [] for name in SPLITS}
    for index in np.random.default_rng(seed).permutation(len(groups)).tolist():
        group = groups[index]
        fitting = (name for name, free in capacity.items() if len(group) <= free)
        split: SplitName = next(fitting, "train")
        drawn[split].append(group)
        if split in capacity:
            capacity[split] -= len(group)
    for split in capacity:
        if not drawn[split]:
            # Every group is larger than its share: take the smallest.
            smallest = min(drawn["train"], key=len)
            drawn["train"].remove(smallest)
            drawn[split].append(smallest)
    for split, members in drawn.items():
        for row in chain.from_iterable(members):
            splits[row] = split
    return splits


def _groups(rows: int, links: Sequence[tuple[int, Hashable]]) -> list[list[int]]:
    """Rows grouped by what they share, in the order of each group's first row.

    The groups are the connected components of the bipartite graph of rows and what they share.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = {key: rows + i for i, key in enumerate(dict.fromkeys(key for _, key in links))}
    ends = ([row for row, _ in links], [nodes[key] for _, key in links])
    size = rows + len(nodes)
    edges = coo_array((np.ones(len(links)), ends), shape=(size, size))
    _, components = connected_components(edges, directed=False)
    groups: dict[int, list[int]] = {}
    for row, component in enumerate(components[:rows].tolist()):
        groups.setdefault(component, []).append(row)
    return list(groups.values())
