"""The metrics of conditional samples against the items of their rows, as metrics.json has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mld.reporting.number_format import metric_title

Score = Mapping[str, Any]
"""The value of a metric given one subset of the modalities, an entry of `conditional_metrics`."""


@dataclass(frozen=True)
class TruthMetric:
    """A metric of samples of `target` against the items of the rows that they were given.

    Its columns in leaderboard.csv are `column`, the mean over samples given one modality each,
    `direction_column` for each conditioning subset, and `limit_column`, of reconstructions.

    Args:
        against: "truth" or "draws".
        better, best: as of a plugin's Metric.
    """

    target: str
    name: str
    against: str
    unit: str
    better: str
    best: float | None

    @property
    def title(self) -> str:
        """As in "psnr, dB ↑"."""
        return metric_title(self.name, self.unit, self.better, self.best)

    @property
    def full_title(self) -> str:
        """As in "image: psnr, dB ↑"."""
        return f"{self.target}: {self.title}"

    @property
    def column(self) -> str:
        """As in "image psnr"."""
        return f"{self.target} {self.name}"

    @property
    def limit_column(self) -> str:
        """As in "image reconstruction psnr"."""
        return f"{self.target} reconstruction {self.name}"

    def direction_column(self, given: str) -> str:
        """As in "image+text>audio log_spectral_distance"."""
        return f"{given}>{self.column}"


def scores_by_metric(metrics: Mapping[str, Any]) -> dict[TruthMetric, list[Score]]:
    """The scores of each metric against the truth, by target in the order of the spec.

    Empty for a run that was evaluated without them.
    """
    scores: dict[TruthMetric, list[Score]] = {}
    for score in metrics.get("conditional_metrics", []):
        metric = TruthMetric(
            score["target"],
            score["metric"],
            score.get("against", "truth"),
            score["unit"],
            score["better"],
            score["best"],
        )
        scores.setdefault(metric, []).append(score)
    names = list(metrics["modalities"])
    return dict(sorted(scores.items(), key=lambda item: names.index(item[0].target)))


def main_metrics(metrics: Iterable[TruthMetric]) -> list[TruthMetric]:
    """The first metric of each target against the truth, and the first of its draws."""
    first: dict[tuple[str, str], TruthMetric] = {}
    for metric in metrics:
        first.setdefault((metric.target, metric.against), metric)
    return list(first.values())


def one_to_one(scores: Iterable[Score]) -> list[Score]:
    """The scores given one modality each that have a value."""
    return [score for score in scores if len(score["given"]) == 1 and score["value"] is not None]
