"""How long cells will take, judged by those that are done; an estimate, never more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from mld.bench.cells import Bench, Cell
from mld.storage.stages import STAGE_NAMES

RATE = 8000
"""Rows a second that one thread trains on, roughly, before anything has been measured."""


class Forecast:
    """Seconds that a cell will take: the mean of the done ones that are most like it.

    Most like are those of the same method with as many modalities; then those of the same method.
    """

    def __init__(self, bench: Bench, cells: Sequence[Cell]) -> None:
        self._took: dict[tuple[object, ...], list[float]] = {}
        for cell in cells:
            if bench.state(cell) == "done":
                self.add(cell, sum(map(bench.run_dir(cell).stage_seconds, STAGE_NAMES)))

    @property
    def measured(self) -> bool:
        """Whether it rests on any cell that is done."""
        return bool(self._took)

    def add(self, cell: Cell, seconds: float) -> None:
        """Learn from a finished cell."""
        for likeness in _likenesses(cell):
            self._took.setdefault(likeness, []).append(seconds)

    def of(self, cell: Cell) -> float:
        """Seconds of one cell; only where `measured`."""
        took = next(self._took[own] for own in _likenesses(cell) if own in self._took)
        return math.fsum(took) / len(took)

    def total(self, cells: Iterable[Cell], slots: int) -> float:
        """Seconds of all of some cells, so many at once."""
        told = list(cells)
        seconds = math.fsum(map(self.of, told)) if self.measured else _rows(told) / RATE
        return seconds / max(1, min(slots, len(told)))


def _likenesses(cell: Cell) -> list[tuple[object, ...]]:
    """What a cell has in common with others, the closest kinship first."""
    size, method = len(cell.at.modalities), cell.at.method
    return [(method, size), (method,), ()]


def _rows(cells: Iterable[Cell]) -> int:
    """Rows to train on, each network counted once however many cells share it."""
    rows: dict[tuple[object, ...], int] = {}
    for cell in cells:
        told, at = cell.settings, cell.at
        for name in at.modalities:
            own = told["autoencode"]["overrides"].get(name, {})
            settings = {**told["autoencode"], **{k: v for k, v in own.items() if v is not None}}
            rows["autoencode", name, at.seed, at.missing] = (
                settings["steps"] * settings["batch_size"]
            )
            rows["judge", name, at.seed] = (
                told["evaluate"]["steps"] * told["evaluate"]["batch_size"]
            )
        rows["diffuse", cell.network] = told["diffuse"]["steps"] * told["diffuse"]["batch_size"]
    return sum(rows.values())
