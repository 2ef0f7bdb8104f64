"""Two suites side by side: cells at the same coordinates, and what one adds to the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mld.bench.cells import Bench
from mld.bench.leaderboard import MAIN
from mld.bench.results import Line, lines_of
from mld_core import ArtefactError


def compare(first: Bench, second: Bench) -> list[dict[str, Any]]:
    """For each variant that both have: the second's figures less the first's, paired by seed.

    ArtefactError if they have none in common.
    """
    known = {(line.modalities, line.variant): line for line in _lines(first)}
    found = []
    for line in _lines(second):
        other = known.get((line.modalities, line.variant))
        if other is None:
            continue
        figures = {column: line.less(other, column) for column in MAIN}
        found.append(
            {
                "modalities": list(line.modalities),
                "variant": line.variant,
                **{column: asdict(own) for column, own in figures.items() if own},
            }
        )
    if not found:
        raise ArtefactError(f"{first.path} and {second.path} have no finished variant in common")
    return found


def _lines(bench: Bench) -> list[Line]:
    return lines_of(bench, bench.read_cells())


__all__ = ["compare"]
