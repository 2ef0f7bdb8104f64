"""Columns of leaderboard.csv about retrieval, from the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mld.data.types import subset_key

RETRIEVAL_TITLES = {
    "joint_retrieval": "joint retrieval at 1",
    "joint_retrieval_at_10": "joint retrieval at 10",
    "conditional_retrieval": "conditional retrieval at 1",
    "conditional_retrieval_at_10": "conditional retrieval at 10",
}
"""The columns that are means over pairs or directions, of which others are references."""


def limit_column(column: str) -> str:
    """The column of reconstructions in place of samples."""
    return f"{column} of reconstructions"


def is_retrieval(column: str) -> bool:
    """Whether a column is a retrieval, of samples or of other items."""
    return column.split(" of ")[0] in RETRIEVAL_TITLES or column.endswith(" retrieval")


def retrieval_columns(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The retrieval of samples, and of real items and reconstructions; empty without a judge.

    The intervals of means are those if all err together, the widest, since they share rows.
    """
    if not (retrieval := scores.get("retrieval")):
        return {}
    conditional, joint = retrieval["conditional"], retrieval["joint"]
    columns: dict[str, Any] = {}
    for rank, suffix in (("at_1", ""), ("at_10", "_at_10")):
        for kind, entries in (("joint", [joint] if joint else []), ("conditional", conditional)):
            column = f"{kind}_retrieval{suffix}"
            columns[column] = _mean([entry[rank] for entry in entries])
            for reference in ("real", "reconstructions"):
                of_reference = [entry[reference][rank] for entry in entries if entry[reference]]
                columns[f"{column} of {reference}"] = _mean(of_reference)
    for entry in conditional:
        direction = f"{subset_key(tuple(entry['given']))}>{entry['target']}"
        columns[f"{direction} retrieval"] = entry["at_1"]
    columns["candidates"] = min(
        (entry["candidates"] for entry in [*conditional, *([joint] if joint else [])]), default=None
    )
    return columns


def _mean(proportions: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The means of values and of bounds; the bounds are None if one has none."""
    by_end = {
        end: [proportion[end] for proportion in proportions] for end in ("value", "low", "high")
    }
    if not by_end["value"]:
        return None
    return {end: None if None in values else fmean(values) for end, values in by_end.items()}
