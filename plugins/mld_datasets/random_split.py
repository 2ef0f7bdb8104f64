"""Splits that are drawn, so that no two of them share a file."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mld_core import SplitName


def drawn_splits(rows: int, files: Sequence[tuple[int, Hashable]], seed: int) -> list[SplitName]:
    """A tenth of the rows for validation, a tenth for test, the others for training.

    Rows that share a file, by themselves or through others, are in one split. Each split has a row
    where there are three such groups or more; where there are fewer, all rows train.

    Args:
        files: pairs of a row and a file of its.
    """
    groups = _groups(rows, files)
    splits: list[SplitName] = ["train"] * rows
    if len(groups) < 3:
        return splits
    room: dict[SplitName, int] = dict.fromkeys(("validation", "test"), max(rows // 10, 1))
    drawn: dict[SplitName, list[list[int]]] = {name: [] for name in ("train", *room)}
    for place in np.random.default_rng(seed).permutation(len(groups)).tolist():
        own = groups[place]
        name = next((name for name, left in room.items() if len(own) <= left), "train")
        drawn[name].append(own)
        if name in room:
            room[name] -= len(own)
    for name in room:
        if not drawn[name]:
            # Each group is larger than a tenth: the smallest one then.
            smallest = min(drawn["train"], key=len)
            drawn["train"].remove(smallest)
            drawn[name].append(smallest)
    for name, chosen in drawn.items():
        for row in (row for own in chosen for row in own):
            splits[row] = name
    return splits


def _groups(rows: int, files: Sequence[tuple[int, Hashable]]) -> list[list[int]]:
    """The rows, those together that share files; in the order of their first rows."""
    nodes = {file: rows + at for at, file in enumerate(dict.fromkeys(file for _, file in files))}
    ends = ([row for row, _ in files], [nodes[file] for _, file in files])
    size = rows + len(nodes)
    edges = coo_array((np.ones(len(files)), ends), shape=(size, size))
    _, found = connected_components(edges, directed=False)
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(found[:rows].tolist()):
        groups.setdefault(group, []).append(row)
    return list(groups.values())
