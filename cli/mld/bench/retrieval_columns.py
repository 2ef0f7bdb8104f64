"""Columns of leaderboard.csv about retrieval, from the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mld.data.types import subset_key
from mld.evaluation.ranking import mean_proportion

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
    """The retrieval of samples, and of real items and reconstructions; empty without a judge."""
    if not (retrieval := scores.get("retrieval")):
        return {}
    conditional, joint = retrieval["conditional"], retrieval["joint"]
    columns: dict[str, Any] = {}
    for rank, suffix in (("at_1", ""), ("at_10", "_at_10")):
        for kind, entries in (("joint", [joint] if joint else []), ("conditional", conditional)):
            column = f"{kind}_retrieval{suffix}"
            columns[column] = mean_proportion([entry[rank] for entry in entries])
            for reference in ("real", "reconstructions"):
                of_reference = [entry[reference][rank] for entry in entries if entry[reference]]
                columns[f"{column} of {reference}"] = mean_proportion(of_reference)
    for entry in conditional:
        direction = f"{subset_key(tuple(entry['given']))}>{entry['target']}"
        columns[f"{direction} retrieval"] = entry["at_1"]
    columns["candidates"] = min(
        (entry["candidates"] for entry in [*conditional, *([joint] if joint else [])]), default=None
    )
    return columns
