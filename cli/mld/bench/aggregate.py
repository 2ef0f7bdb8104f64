"""Results of a suite: the metrics of each trial, and their means over seeds with intervals."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from mld.bench.retrieval_columns import is_retrieval, retrieval_columns
from mld.bench.suite import Coordinates
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial
from mld.data.types import subset_key
from mld.reporting.truth_metrics import Score, TruthMetric, one_to_one, scores_by_metric
from mld.storage.files import atomic_write
from mld.storage.run_dir import RunDir

COORDINATE_COLUMNS = ("modalities", "method", "missing", "sampler", "guidance", "seed")
"""The first columns of leaderboard.csv."""


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
class TrialResult:
    """The results of one finished trial, by column of leaderboard.csv.

    Args:
        split: whose rows the samples were evaluated against.
        metrics: a column that ends in `coherence`, or is a retrieval, is a proportion.
        intervals: the ends of a 95 % interval, for the columns that have one.
        truth_metrics: those that the run was evaluated by, the first of each modality first.
    """

    run_dir: RunDir
    split: str
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    truth_metrics: Sequence[TruthMetric]


@dataclass(frozen=True)
class VariantResult:
    """The results of one variant on one set of modalities: of each finished trial, by seed."""

    coordinates: Coordinates
    trials: dict[int, TrialResult]

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self.coordinates.variant

    def figure(self, column: str) -> Figure | None:
        """The mean of a column over the seeds that have it; None if none has."""
        values = self._values(column)
        mean = mean_of([*values.values()])
        if mean and mean.n == 1:
            (seed,) = values
            low, high = self.trials[seed].intervals.get(column, (None, None))
            return replace(mean, low=low, high=high)
        return mean

    @property
    def split(self) -> str:
        """The split whose rows the samples were evaluated against."""
        return next(iter(self.trials.values())).split

    @property
    def truth_metrics(self) -> list[TruthMetric]:
        """The metrics against the truth that any trial has."""
        metrics = (metric for trial in self.trials.values() for metric in trial.truth_metrics)
        return list(dict.fromkeys(metrics))

    def better(self, column: str) -> str:
        """Which values of a column are better: "higher", "lower", or "nearer" to some value."""
        if column.endswith("frechet"):
            return "lower"
        metric = self._truth_metric(column)
        return metric.better if metric else "higher"

    def is_comparable(self, other: VariantResult, column: str) -> bool:
        """False for results on different splits, or of another number of what decides the column.

        Frechet distances decrease with the number of samples, the errors of best estimates with
        that of draws, and retrieval with that of candidates.
        """
        if self.split != other.split:
            return False
        if column.endswith("frechet"):
            decisive = "samples"
        elif is_retrieval(column):
            decisive = "candidates"
        elif self._truth_metric(column):
            decisive = "draws"
        else:
            return True
        counts = {figure.value for result in (self, other) if (figure := result.figure(decisive))}
        return len(counts) < 2

    def _truth_metric(self, column: str) -> TruthMetric | None:
        """The metric against the truth of a column; None for other columns."""
        target_and_metric = column.rpartition(">")[2]
        named = (metric for metric in self.truth_metrics if metric.column == target_and_metric)
        return next(named, None)

    def difference(self, other: VariantResult, column: str) -> Figure | None:
        """The mean of this result minus another over common seeds; None if there are none.

        For a single seed, the interval is that of two independent runs.
        """
        differences = self.differences_by_seed(other, column)
        mean = mean_of([*differences.values()])
        if mean is None or mean.n > 1:
            return mean
        (seed,) = differences
        ends = [result.trials[seed].intervals.get(column) for result in (self, other)]
        half_widths = [(end[1] - end[0]) / 2 for end in ends if end]
        return _with_half_width(mean, math.hypot(*half_widths)) if len(half_widths) == 2 else mean

    def differences_by_seed(self, other: VariantResult, column: str) -> dict[int, float]:
        """This result minus another for each seed that both have; empty if not comparable."""
        if not self.is_comparable(other, column):
            return {}
        values, others = self._values(column), other._values(column)
        return {seed: values[seed] - others[seed] for seed in values if seed in others}

    def _values(self, column: str) -> dict[int, float]:
        values = {seed: trial.metrics.get(column) for seed, trial in self.trials.items()}
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
    figures = [figure for result, other in pairs if (figure := result.difference(other, column))]
    if not figures:
        return None
    by_pair = [result.differences_by_seed(other, column) for result, other in pairs]
    by_pair = [by_seed for by_seed in by_pair if by_seed]
    seeds = sorted(set.intersection(*map(set, by_pair)))
    mean = mean_of([math.fsum(each[seed] for each in by_pair) / len(by_pair) for seed in seeds])
    widths = [w for each in figures if each.n == 1 and (w := each.half_width) is not None]
    if mean is None or mean.n > 1 or len(widths) < len(figures):
        return mean
    return _with_half_width(mean, math.fsum(widths) / len(widths))


def _with_half_width(single: Figure, half_width: float) -> Figure:
    return replace(single, low=single.value - half_width, high=single.value + half_width)


def trial_result(run_dir: RunDir) -> TrialResult:
    """The results of a finished trial, given its run directory."""
    scores = run_dir.read_json(run_dir.metrics)
    conditional = scores["conditional_coherence"]
    # The subsets share rows: this is the interval if they all err together, the widest.
    mean_conditional = {
        end: _mean(score[end] for score in conditional) for end in ("value", "low", "high")
    }
    joint = [distance for distance in scores["frechet"] if not distance["given"]]
    cross = [distance for distance in scores["frechet"] if distance["given"]]
    columns: dict[str, Any] = {
        "joint_coherence": scores["joint_coherence"],
        "joint_ceiling": scores["joint_ceiling"],
        "conditional_coherence": mean_conditional if conditional else None,
        **{f"{_direction(coherence)} coherence": coherence for coherence in conditional},
        **retrieval_columns(scores),
    }
    for name, modality in scores["modalities"].items():
        for score in ("classifier_accuracy", "reconstruction_accuracy", "reconstruction_frechet"):
            columns[f"{name} {score}"] = modality[score]
        values = (distance["value"] for distance in cross if distance["target"] == name)
        columns[f"{name} conditional_frechet"] = _mean(values)
    truth_metrics = scores_by_metric(scores)
    for metric, entries in truth_metrics.items():
        columns |= _truth_columns(metric, entries, scores)
    columns |= {
        "joint_frechet": _mean(distance["value"] for distance in joint),
        "conditional_frechet": _mean(distance["value"] for distance in cross),
        **{f"{_direction(score)} frechet": score["value"] for score in scores["frechet"]},
        "draws": scores.get("draws", 1) if truth_metrics else None,
        "samples": _mean({distance["n"] for distance in joint or cross}),
        "nfe": scores["nfe"].get("joint"),
        "seconds_per_sample": scores["seconds_per_sample"].get("joint"),
        "training_seconds": _training_seconds(run_dir),
        "parameters": run_dir.stage_metadata("diffuse")["parameters"]["diffuse"],
    }
    proportions = {name: score for name, score in columns.items() if isinstance(score, dict)}
    metrics = columns | {name: score["value"] for name, score in proportions.items()}
    intervals = {
        name: (score["low"], score["high"])
        for name, score in proportions.items()
        if score["low"] is not None
    }
    return TrialResult(run_dir, scores["split"], metrics, intervals, [*truth_metrics])


def _truth_columns(
    metric: TruthMetric, entries: Sequence[Score], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """The columns of a metric against the truth, of which `entries` are the scores.

    The samples given one modality each share rows: the interval of their mean is that if they all
    err together, the widest.
    """
    alone = one_to_one(entries)
    ends = ("value", "low", "high")
    if any(score["low"] is None for score in alone):
        ends_of_mean = {"value": _mean(score["value"] for score in alone), "low": None}
    else:
        ends_of_mean = {end: _mean(score[end] for score in alone) for end in ends}
    return {
        metric.column: ends_of_mean,
        **{metric.direction_column(subset_key(tuple(each["given"]))): each for each in entries},
        metric.limit_column: scores["modalities"][metric.target]["metrics"][metric.name]["value"],
    }


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
    states = [event.get("state") for event in events if event.get("stage") == "diffuse"]
    resumed = states.count("started") > 1
    return None if cached or resumed else run_dir.stage_seconds("diffuse")


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def variant_results(suite_dir: SuiteDir, trials: Iterable[Trial]) -> list[VariantResult]:
    """The results of the finished trials, in the suite's order of variants."""
    results: dict[tuple[tuple[str, ...], str], VariantResult] = {}
    for trial in trials:
        key, seed = trial.coordinates.variant_key, trial.coordinates.seed
        result = results.setdefault(key, VariantResult(trial.coordinates, {}))
        if suite_dir.state(trial) == "done":
            result.trials[seed] = trial_result(suite_dir.run_dir(trial))
    return [result for result in results.values() if result.trials]


def write_csv(path: Path, results: Iterable[VariantResult]) -> None:
    """One row for each trial: its coordinates, then every metric that any trial has."""
    rows: list[dict[str, Any]] = []
    for result in results:
        at = result.coordinates
        variant = ("+".join(at.modalities), at.method, at.missing, at.sampler, at.guidance_label)
        for seed, trial in result.trials.items():
            row = zip(COORDINATE_COLUMNS, (*variant, seed), strict=True)
            rows.append({**dict(row), **trial.metrics})
    columns = dict.fromkeys(column for row in (COORDINATE_COLUMNS, *rows) for column in row)
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns.keys())
        writer.writeheader()
        writer.writerows(rows)
