"""What the cells of a suite have found: a row each, and means over seeds."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from mld.bench.cells import Bench, Cell
from mld.bench.suite import Coordinates
from mld.data.types import subset_key
from mld.storage import files
from mld.storage.run_dir import RunDir

Row = dict[str, float | None]
"""The figures of one cell by column; a column ending in `coherence` is a share, high is good."""


@dataclass(frozen=True)
class Figure:
    """One number of a leaderboard.

    Args:
        low, high: a 95 % interval: over seeds by Student's t, of a single seed by bootstrap over
            its samples where the run has one; None where there is none.
        spread: the standard deviation over seeds; None with one.
    """

    value: float
    low: float | None
    high: float | None
    spread: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Line:
    """One variant on one set of modalities: by seed, its figures, their intervals and its key."""

    modalities: tuple[str, ...]
    variant: str
    at: Coordinates
    rows: Mapping[int, Row]
    intervals: Mapping[int, Mapping[str, tuple[float, float]]]
    keys: Mapping[int, str]

    def figure(self, column: str) -> Figure | None:
        """The mean of a column; None where no seed has it."""
        values = self._values(column)
        found = mean_of(list(values.values()))
        if found and found.n == 1:
            (seed,) = values
            low, high = self.intervals[seed].get(column, (None, None))
            return Figure(found.value, low, high, None, 1)
        return found

    def comparable(self, other: Line, column: str) -> bool:
        """Whether a difference says anything: Frechet distances fall as samples grow in number."""
        counts = [line.figure("samples") for line in (self, other)]
        alike = len({own.value for own in counts if own}) < 2
        return alike or not column.endswith("frechet")

    def less(self, other: Line, column: str) -> Figure | None:
        """The mean over common seeds of this line's value less another's; None of none.

        Of a single seed, the interval is that of two independent runs.
        """
        found = mean_of(list(self.differences(other, column).values()))
        if found is None or found.n > 1:
            return found
        (seed,) = self._values(column).keys() & other._values(column).keys()
        ends = [line.intervals[seed].get(column) for line in (self, other)]
        if None in ends:
            return found
        half = math.hypot(*((high - low) / 2 for low, high in ends))
        return Figure(found.value, found.value - half, found.value + half, None, 1)

    def differences(self, other: Line, column: str) -> dict[int, float]:
        """This line's value less another's, by seed, for those that have both."""
        if not self.comparable(other, column):
            return {}
        mine, others = self._values(column), other._values(column)
        return {seed: mine[seed] - others[seed] for seed in mine if seed in others}

    def _values(self, column: str) -> dict[int, float]:
        """A column by seed, without the seeds that do not have it."""
        found = {seed: row.get(column) for seed, row in self.rows.items()}
        return {seed: value for seed, value in found.items() if value is not None}


def mean_of(values: Sequence[float]) -> Figure | None:
    """A mean with its spread and its interval; None of nothing."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Figure(mean, None, None, None, 1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    return Figure(mean, mean - half, mean + half, spread, n)


def mean_less(pairs: Sequence[tuple[Line, Line]], column: str) -> Figure | None:
    """The mean over seeds of what the first of each pair scores more, itself a mean over pairs.

    Over the seeds that all pairs have, whose cells share autoencoders and rows. So of a single
    seed the interval is that of pairs which all err together, the widest.
    """
    known = [own for line, other in pairs if (own := line.differences(other, column))]
    seeds = set.intersection(*map(set, known)) if known else set()
    found = mean_of([math.fsum(own[seed] for own in known) / len(known) for seed in sorted(seeds)])
    figures = [own for line, other in pairs if (own := line.less(other, column))]
    halves = [own.half for own in figures if own.n == 1 and own.half is not None]
    if found is None or found.n > 1 or len(halves) < len(figures):
        return found
    half = math.fsum(halves) / len(halves)
    return Figure(found.value, found.value - half, found.value + half, None, 1)


def row_of(bench: Bench, cell: Cell) -> tuple[Row, dict[str, tuple[float, float]]]:
    """The figures of a finished cell, and the intervals of those that have one."""
    run_dir = bench.run_dir(cell)
    scores = run_dir.read_json(run_dir.metrics)
    row: Row = {}
    intervals: dict[str, tuple[float, float]] = {}

    def share(column: str, told: Mapping[str, Any] | None) -> None:
        row[column] = told["value"] if told else None
        if told:
            intervals[column] = (told["low"], told["high"])

    share("joint_coherence", scores["joint_coherence"])
    share("joint_ceiling", scores["joint_ceiling"])
    conditional = scores["conditional_coherence"]
    row["conditional_coherence"] = _mean(told["value"] for told in conditional)
    if conditional:
        # The subsets share rows: this is their interval if they all err together, the widest.
        lows, highs = (_mean(told[end] for told in conditional) for end in ("low", "high"))
        intervals["conditional_coherence"] = (lows, highs)
    for told in conditional:
        share(f"{subset_key(tuple(told['given']))}>{told['target']} coherence", told)
    for name, own in scores["modalities"].items():
        share(f"{name} classifier_accuracy", own["classifier_accuracy"])
        share(f"{name} reconstruction_accuracy", own["reconstruction_accuracy"])
        row[f"{name} reconstruction_frechet"] = own["reconstruction_frechet"]
        given = [told for told in scores["frechet"] if told["given"] and told["target"] == name]
        row[f"{name} conditional_frechet"] = _mean(told["value"] for told in given)
    joint = [told for told in scores["frechet"] if not told["given"]]
    others = [told for told in scores["frechet"] if told["given"]]
    row["joint_frechet"] = _mean(told["value"] for told in joint)
    row["conditional_frechet"] = _mean(told["value"] for told in others)
    for told in scores["frechet"]:
        row[f"{subset_key(tuple(told['given']))}>{told['target']} frechet"] = told["value"]
    row["samples"] = _mean({told["n"] for told in joint or others})
    row["nfe"] = scores["nfe"].get("joint")
    row["seconds_per_sample"] = scores["seconds_per_sample"].get("joint")
    row["training_seconds"] = _training_seconds(run_dir)
    row["parameters"] = run_dir.stage_metadata("diffuse")["parameters"]["diffuse"]
    return row, intervals


def _training_seconds(run_dir: RunDir) -> float | None:
    """What the stage took; None where a network was read from the store, or its training resumed.

    The time of the attempts before the last is not known.
    """
    events = run_dir.read_events()
    stored = any(event["event"] == "store" and event["job"] == "diffuse" for event in events)
    begun = [event for event in events if event.get("stage") == "diffuse"]
    attempts = sum(event.get("state") == "started" for event in begun)
    return None if stored or attempts > 1 else run_dir.stage_seconds("diffuse")


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def lines_of(bench: Bench, cells: Sequence[Cell]) -> list[Line]:
    """The finished cells by set of modalities and variant, in the suite's order."""
    done = [cell for cell in cells if bench.state(cell) == "done"]
    places = {(cell.at.modalities, cell.at.variant): None for cell in cells}
    order = {place: index for index, place in enumerate(places)}

    def place(cell: Cell) -> int:
        return order[cell.at.modalities, cell.at.variant]

    lines = []
    for _, group in groupby(sorted(done, key=place), key=place):
        own = list(group)
        found = {cell.at.seed: row_of(bench, cell) for cell in own}
        lines.append(
            Line(
                own[0].at.modalities,
                own[0].at.variant,
                own[0].at,
                {seed: row for seed, (row, _) in found.items()},
                {seed: intervals for seed, (_, intervals) in found.items()},
                {cell.at.seed: cell.key for cell in own},
            )
        )
    return lines


def write_csv(path: Path, lines: Sequence[Line]) -> None:
    """One row a cell: its coordinates, then every figure that any cell has."""
    columns = list(
        dict.fromkeys(key for line in lines for row in line.rows.values() for key in row)
    )
    with (
        files.atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        heads = ("modalities", "method", "missing", "sampler", "guidance", "seed")
        writer.writerow([*heads, *columns])
        for line in lines:
            at = line.at
            for seed, row in line.rows.items():
                told = [
                    "+".join(at.modalities),
                    at.method,
                    at.missing,
                    at.sampler,
                    at.strength,
                    seed,
                ]
                writer.writerow([*told, *(row.get(column) for column in columns)])
