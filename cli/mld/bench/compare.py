"""Two suites side by side: cells at the same coordinates, and what one adds to the other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mld.bench.aggregate import Line, lines_of
from mld.bench.cells import Bench, told_together
from mld.bench.tables import MAIN
from mld_core import RunDirError


def compare(first: Bench, second: Bench) -> list[dict[str, Any]]:
    """For each variant that both have: the second's figures less the first's, paired by seed.

    RunDirError if they have none in common.
    """
    known, others = _lines(first), _lines(second)
    found = []
    for place, line in others.items():
        if place in known:
            figures = {column: line.less(known[place], column) for column in MAIN}
            told = {column: asdict(own) for column, own in figures.items() if own}
            found.append({"modalities": list(line.modalities), "variant": line.variant, **told})
    if not found:
        raise RunDirError(f"{first.path} and {second.path} have no finished variant in common")
    return found


def left_out(first: Bench, second: Bench) -> list[str]:
    """What only one of two suites has finished, and so is not compared: folder and cells."""
    finished = [
        {(cell.at.modalities, cell.at.variant, cell.at.seed): cell for cell in cells}
        for cells in (
            [cell for cell in bench.read_cells() if bench.state(cell) == "done"]
            for bench in (first, second)
        )
    ]
    told = []
    for bench, own, other in (
        (first, finished[0], finished[1]),
        (second, finished[1], finished[0]),
    ):
        alone = [cell for place, cell in own.items() if place not in other]
        if alone:
            told.append(f"only in {bench.path}: {told_together(alone)}")
    return told


def _lines(bench: Bench) -> dict[tuple[tuple[str, ...], str], Line]:
    lines = lines_of(bench, bench.read_cells())
    return {(line.modalities, line.variant): line for line in lines}
