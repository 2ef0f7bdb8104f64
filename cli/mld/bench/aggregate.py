"""Results of a suite: the metrics of each trial, and their means over seeds with intervals."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from mld.bench.suite import Coordinates, VariantKey
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial
from mld.data.types import subset_key
from mld.storage import files
from mld.storage.run_dir import RunDir

TrialMetrics = dict[str, float | None]
"""By column of leaderboard.csv; a column that ends in `coherence` is a proportion."""
COORDINATE_COLUMNS = ("modalities", "method", "missing", "sampler", "guidance", "seed")
"""The first columns of leaderboard.csv."""
Intervals = dict[str, tuple[float, float]]
"""By column: the ends of a 95 % interval."""


@dataclass(frozen=True)
class Figure:
    """One number of a leaderboard.

    Args:
        low, high: the ends of a 95 % interval: Student's t over seeds; for a single seed, the
            bootstrap interval over its samples if the run has one. None if there is none.
        std: the standard deviation over seeds; None for a single seed.
        n: the number of seeds.
    """

    value: float
    low: float | None
    high: float | None
    std: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class VariantResult:
    """The results of one variant on one set of modalities.

    Args:
        coordinates: those of its first trial.
        metrics, intervals, run_dirs: of each trial, by seed.
    """

    coordinates: Coordinates
    metrics: Mapping[int, TrialMetrics]
    intervals: Mapping[int, Intervals]
    run_dirs: Mapping[int, RunDir]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The set of modalities."""
        return self.coordinates.modalities

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self.coordinates.variant

    def figure(self, column: str) -> Figure | None:
        """The mean of a column over the seeds that have it; None if none has."""
        values = self._values(column)
        mean = mean_of(list(values.values()))
        if mean and mean.n == 1:
            (seed,) = values
            low, high = self.intervals[seed].get(column, (None, None))
            return Figure(mean.value, low, high, None, 1)
        return mean

    def is_comparable(self, other: VariantResult, column: str) -> bool:
        """False for Frechet distances of unequal numbers of samples: they decrease with these."""
        counts = {figure.value for result in (self, other) if (figure := result.figure("samples"))}
        return len(counts) < 2 or not column.endswith("frechet")

    def difference(self, other: VariantResult, column: str) -> Figure | None:
        """The mean of this result minus another over common seeds; None if there are none.

        For a single seed, the interval is that of two independent runs.
        """
        mean = mean_of(list(self.differences_by_seed(other, column).values()))
        if mean is None or mean.n > 1:
            return mean
        (seed,) = self._values(column).keys() & other._values(column).keys()
        ends = [result.intervals[seed].get(column) for result in (self, other)]
        half_widths = [(end[1] - end[0]) / 2 for end in ends if end]
        return _with_half_width(mean, math.hypot(*half_widths)) if len(half_widths) == 2 else mean

    def differences_by_seed(self, other: VariantResult, column: str) -> dict[int, float]:
        """This result minus another for each seed that both have; empty if not comparable."""
        if not self.is_comparable(other, column):
            return {}
        values, others = self._values(column), other._values(column)
        return {seed: values[seed] - others[seed] for seed in values if seed in others}

    def _values(self, column: str) -> dict[int, float]:
        """A column by seed, without the seeds that do not have it."""
        values = {seed: metrics.get(column) for seed, metrics in self.metrics.items()}
        return {seed: value for seed, value in values.items() if value is not None}


def mean_of(values: Sequence[float]) -> Figure | None:
    """The mean with standard deviation and Student's t interval; None if there are no values."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Figure(mean, None, None, None, 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half_width = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Figure(mean, mean - half_width, mean + half_width, std, n)


def mean_difference(
    pairs: Sequence[tuple[VariantResult, VariantResult]], column: str
) -> Figure | None:
    """The mean difference of pairs of results, averaged over pairs within each seed.

    Only seeds that all pairs have are used; their trials share autoencoders and rows. Therefore
    the interval of a single seed assumes that all pairs err together, which is the widest.
    """
    by_pair = [result.differences_by_seed(other, column) for result, other in pairs]
    by_pair = [differences for differences in by_pair if differences]
    seeds = set.intersection(*map(set, by_pair)) if by_pair else set()
    mean = mean_of(
        [
            math.fsum(differences[seed] for differences in by_pair) / len(by_pair)
            for seed in sorted(seeds)
        ]
    )
    figures = [figure for result, other in pairs if (figure := result.difference(other, column))]
    half_widths = [
        figure.half_width for figure in figures if figure.n == 1 and figure.half_width is not None
    ]
    if mean is None or mean.n > 1 or len(half_widths) < len(figures):
        return mean
    return _with_half_width(mean, math.fsum(half_widths) / len(half_widths))


def _with_half_width(single: Figure, half_width: float) -> Figure:
    """The figure of a single seed with an interval around it."""
    return Figure(single.value, single.value - half_width, single.value + half_width, None, 1)


def trial_metrics(suite_dir: SuiteDir, trial: Trial) -> tuple[TrialMetrics, Intervals]:
    """The metrics of a finished trial, and the intervals of those that have one."""
    run_dir = suite_dir.run_dir(trial)
    scores = run_dir.read_json(run_dir.metrics)
    metrics: TrialMetrics = {}
    intervals: Intervals = {}

    def add_proportion(column: str, proportion: Mapping[str, Any] | None) -> None:
        metrics[column] = proportion["value"] if proportion else None
        if proportion:
            intervals[column] = (proportion["low"], proportion["high"])

    add_proportion("joint_coherence", scores["joint_coherence"])
    add_proportion("joint_ceiling", scores["joint_ceiling"])
    conditional = scores["conditional_coherence"]
    value, low, high = (
        _mean(coherence[field] for coherence in conditional) for field in ("value", "low", "high")
    )
    metrics["conditional_coherence"] = value
    if low is not None and high is not None:
        # The subsets share rows: this is the interval if they all err together, the widest.
        intervals["conditional_coherence"] = (low, high)
    for coherence in conditional:
        add_proportion(f"{_direction(coherence)} coherence", coherence)
    joint = [distance for distance in scores["frechet"] if not distance["given"]]
    cross = [distance for distance in scores["frechet"] if distance["given"]]
    for name, modality in scores["modalities"].items():
        add_proportion(f"{name} classifier_accuracy", modality["classifier_accuracy"])
        add_proportion(f"{name} reconstruction_accuracy", modality["reconstruction_accuracy"])
        metrics[f"{name} reconstruction_frechet"] = modality["reconstruction_frechet"]
        metrics[f"{name} conditional_frechet"] = _mean(
            distance["value"] for distance in cross if distance["target"] == name
        )
    metrics["joint_frechet"] = _mean(distance["value"] for distance in joint)
    metrics["conditional_frechet"] = _mean(distance["value"] for distance in cross)
    for distance in scores["frechet"]:
        metrics[f"{_direction(distance)} frechet"] = distance["value"]
    metrics["samples"] = _mean({distance["n"] for distance in joint or cross})
    metrics["nfe"] = scores["nfe"].get("joint")
    metrics["seconds_per_sample"] = scores["seconds_per_sample"].get("joint")
    metrics["training_seconds"] = _training_seconds(run_dir)
    metrics["parameters"] = run_dir.stage_metadata("diffuse")["parameters"]["diffuse"]
    return metrics, intervals


def _direction(score: Mapping[str, Any]) -> str:
    """What a score is given and of, as in "joint>image" or "image+text>audio"."""
    return f"{subset_key(tuple(score['given']))}>{score['target']}"


def _training_seconds(run_dir: RunDir) -> float | None:
    """Duration of the stage `diffuse`.

    None if the network came from the weight store, or if the training was resumed: the time of
    earlier attempts is not known.
    """
    events = run_dir.read_events()
    cached = any(event["event"] == "store" and event["job"] == "diffuse" for event in events)
    attempts = sum(
        event.get("stage") == "diffuse" and event.get("state") == "started" for event in events
    )
    return None if cached or attempts > 1 else run_dir.stage_seconds("diffuse")


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def variant_results(suite_dir: SuiteDir, trials: Sequence[Trial]) -> list[VariantResult]:
    """The results of the finished trials, in the suite's order of variants."""
    by_variant: dict[VariantKey, list[Trial]] = {}
    for trial in trials:
        finished = by_variant.setdefault(trial.coordinates.variant_key, [])
        if suite_dir.state(trial) == "done":
            finished.append(trial)
    results = []
    for finished in filter(None, by_variant.values()):
        by_seed = {trial.coordinates.seed: trial_metrics(suite_dir, trial) for trial in finished}
        results.append(
            VariantResult(
                finished[0].coordinates,
                {seed: metrics for seed, (metrics, _) in by_seed.items()},
                {seed: intervals for seed, (_, intervals) in by_seed.items()},
                {trial.coordinates.seed: suite_dir.run_dir(trial) for trial in finished},
            )
        )
    return results


def write_csv(path: Path, results: Sequence[VariantResult]) -> None:
    """One row for each trial: its coordinates, then every metric that any trial has."""
    rows = [
        {
            "modalities": "+".join(result.modalities),
            "method": result.coordinates.method,
            "missing": result.coordinates.missing,
            "sampler": result.coordinates.sampler,
            "guidance": result.coordinates.guidance_label,
            "seed": seed,
            **metrics,
        }
        for result in results
        for seed, metrics in result.metrics.items()
    ]
    all_columns = (*COORDINATE_COLUMNS, *(column for row in rows for column in row))
    columns = list(dict.fromkeys(all_columns))
    with (
        files.atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
