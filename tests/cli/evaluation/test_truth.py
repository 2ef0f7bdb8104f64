"""Metrics of several draws of each row, from draws of which everything is known."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mld.data.loading import SplitRows
from mld.data.packed_items import Items
from mld.data.types import SubsetSamples
from mld.evaluation.truth import TruthComparison
from mld_core import Metric, Modality, Summary


class Halves(nn.Module):
    """An autoencoder whose latents are half of the items."""

    def encode(self, x: Tensor) -> Tensor:
        return x / 2

    def decode(self, z: Tensor) -> Tensor:
        return z * 2


def mean_error(items: Tensor, truth: Tensor) -> float:
    assert items.shape == truth.shape
    return float((items - truth).abs().mean())


def mean_error_of_draws(draws: Tensor, truth: Tensor) -> float:
    assert draws.ndim == truth.ndim + 1
    return float((draws - truth[:, None]).abs().mean())


METRICS = {
    "error": Metric(mean_error, "truth", "lower", best=0.0),
    "error_of_draws": Metric(mean_error_of_draws, "draws", "lower", best=0.0),
}


class WithoutSummary(Modality):
    kind = "plain"

    def __init__(self) -> None:
        pass

    def metrics(self) -> Mapping[str, Metric]:
        return METRICS


class Mean(WithoutSummary):
    def summarise(self, draws: Tensor) -> Summary:
        return Summary(draws.mean(0), {})


WithoutSummary.__abstractmethods__ = Mean.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def compare(
    modality: Modality, truth: list[float], draws: list[list[float]], present: list[bool]
) -> tuple[TruthComparison, list[dict[str, Any]]]:
    """The comparison of draws of `b`, of which latents are half, given the `a` of each row."""
    column = torch.tensor(truth)[:, None]
    recorded = torch.tensor(present)
    rows = SplitRows(
        ids=tuple(map(str, range(len(truth)))),
        items={
            "a": Items.of(modality, torch.zeros_like(column), torch.ones_like(recorded)),
            "b": Items.of(modality, column[recorded], recorded),
        },
        present=torch.stack([torch.ones(len(truth)).bool(), recorded], 1),
        labels=None,
    )
    z = torch.tensor(draws)[..., None] / 2
    drawn = {"b": z} if z.shape[1] > 1 else {}
    subset = SubsetSamples(("a",), torch.arange(len(truth)), {"b": z[:, 0]}, 1, 0.1, drawn)
    evaluators: Any = {
        name: SimpleNamespace(originals=rows.items[name][recorded], latent_dim=1, device=CPU)
        for name in ("a", "b")
    }
    networks: Any = dict.fromkeys("ab", Halves())
    comparison = TruthComparison(
        evaluators, networks, dict.fromkeys("ab", modality), rows, [subset], 0
    )
    return comparison, list(comparison.metrics(subset, "b", z[:, 0] * 2))


CPU = torch.device("cpu")
TRUTH = [1.0, 5.0, 9.0]
DRAWS = [[0.0, 1.0, 8.0], [7.0, 5.0, 4.0], [0.0, 0.0, 0.0]]
PRESENT = [True, True, False]


@pytest.mark.parametrize(
    ("modality", "error"), [(WithoutSummary(), 0.0), (Mean(), (2 + 1 / 3) / 2)]
)
def test_errors_are_those_of_the_best_estimate(modality: Modality, error: float) -> None:
    # The medoids are 1 and 5, the means 3 and 5 1/3; the third row has no item.
    _, (of_best, of_draws) = compare(modality, TRUTH, DRAWS, PRESENT)
    assert of_best["value"] == pytest.approx(error)
    assert (of_best["of"], of_best["n"]) == ("best estimate of 3 draws", 2)
    assert of_draws["value"] == pytest.approx((1 + 0 + 7 + 2 + 0 + 1) / 6)
    assert (of_draws["metric"], of_draws["against"]) == ("error_of_draws", "draws")
    assert of_draws["of"] == "3 draws"


def test_a_single_draw_has_no_metrics_of_draws() -> None:
    comparison, scores = compare(Mean(), TRUTH, [row[:1] for row in DRAWS], PRESENT)
    assert [(score["metric"], score["of"]) for score in scores] == [("error", "one sample")]
    assert scores[0]["value"] == pytest.approx(1.5)
    assert comparison.of_unrelated_rows("b", "", METRICS["error_of_draws"]) is None


def test_unrelated_rows_are_as_many_as_draws() -> None:
    # Each row beside the two others, or beside their mean.
    truth, draws = [0.0, 1.0, 5.0], [[0.0, 0.0]] * 3
    comparison, _ = compare(Mean(), truth, draws, [True] * 3)
    of_draws = comparison.of_unrelated_rows("b", "", METRICS["error_of_draws"])
    assert of_draws == pytest.approx((1 + 5 + 1 + 4 + 5 + 4) / 6)
    of_mean = comparison.of_unrelated_rows("b", "", METRICS["error"])
    assert of_mean == pytest.approx((3 + 1.5 + 4.5) / 3)
    comparison, _ = compare(WithoutSummary(), truth[:2], draws[:2], [True] * 2)
    assert comparison.of_unrelated_rows("b", "", METRICS["error"]) == 1
    assert comparison.of_unrelated_rows("b", "", METRICS["error_of_draws"]) is None


@pytest.mark.parametrize(
    ("better", "best", "bounds", "expected"),
    [
        ("lower", 0.0, (None, None), (0.0, 4.18)),
        ("lower", 0.0, (0.0, 2.0), (0.0, 2.0)),
        ("higher", None, (None, None), (-2.18, 4.18)),
        ("nearer", 0.8, (None, None), (-2.18, 4.18)),
        ("nearer", 0.8, (0.0, 1.0), (0.0, 1.0)),
    ],
)
def test_interval_holds_possible_values_alone(
    better: Any, best: float | None, bounds: Any, expected: tuple[float, float]
) -> None:
    # Row i is in group i mod 4; a mean of 1 with a standard error of 1, and t(3) = 3.18245.
    metric = Metric(mean_error, "truth", better, best=best, bounds=bounds)

    class OneMetric(WithoutSummary):
        def metrics(self) -> Mapping[str, Metric]:
            return {"error": metric}

    draws = [[4.0] if row % 4 == 3 else [0.0] for row in range(40)]
    _, (score,) = compare(OneMetric(), [0.0] * 40, draws, [True] * 40)
    assert (score["low"], score["high"]) == pytest.approx(expected, abs=0.01)
