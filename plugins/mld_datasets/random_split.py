"""Random splits of rows, such that no two splits share a file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

import numpy as np

from mld_core import SPLITS, SplitName


def draw_splits(rows: int, files: Sequence[tuple[int, Hashable]], seed: int) -> list[SplitName]:
    """The split of each row: a tenth validation, a tenth test, the rest train.

    Rows that share a file, directly or through other rows, form a group and are in one split. Each
    split has a row where there are at least three groups; with fewer, all rows are in train.
    `files` are pairs of a row and the identity of one of its files.
    """
    groups = _groups(rows, files)
    splits: list[SplitName] = ["train"] * rows
    if len(groups) < 3:
        return splits
    tenth = max(rows // 10, 1)
    capacity: dict[SplitName, int] = {"validation": tenth, "test": tenth}
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
            # Every group is larger than a tenth: take the smallest.
            smallest = min(drawn["train"], key=len)
            drawn["train"].remove(smallest)
            drawn[split].append(smallest)
    for split, members in drawn.items():
        for row in chain.from_iterable(members):
            splits[row] = split
    return splits


def _groups(rows: int, files: Sequence[tuple[int, Hashable]]) -> list[list[int]]:
    """Rows grouped by shared files, in the order of each group's first row.

    The groups are the connected components of the bipartite graph of rows and files.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = {file: rows + i for i, file in enumerate(dict.fromkeys(file for _, file in files))}
    ends = ([row for row, _ in files], [nodes[file] for _, file in files])
    size = rows + len(nodes)
    edges = coo_array((np.ones(len(files)), ends), shape=(size, size))
    _, components = connected_components(edges, directed=False)
    groups: dict[int, list[int]] = {}
    for row, component in enumerate(components[:rows].tolist()):
        groups.setdefault(component, []).append(row)
    return list(groups.values())
