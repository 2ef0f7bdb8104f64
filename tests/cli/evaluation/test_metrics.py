"""Metrics of conditional samples against the items of their rows, from items that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mld.data.loading import SplitRows
from mld.data.packed_items import Items
from mld.data.types import SubsetSamples
from mld.evaluation.evaluator import build_evaluator
from mld.evaluation.group_interval import group_half_width
from mld.evaluation.metrics import EvaluationTable
from mld_core import Metric, Modality


class Identity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        return (z - x).square().sum(1)


def mean_error(items: Tensor, truth: Tensor) -> float:
    if not len(items) or len(items) != len(truth):
        raise ValueError("items and truth are compared row by row")
    return float((items - truth).abs().mean())


def undefined(items: Tensor, truth: Tensor) -> float:
    return float("nan")


IMPLEMENTED = dict.fromkeys(Modality.__abstractmethods__)
"""Methods that are not called."""
METRICS = {
    "error": Metric(mean_error, "truth", "lower", best=0.0, unit="m"),
    "undefined": Metric(undefined, "truth", "higher"),
    "of_reconstructions": Metric(mean_error, "originals", "lower", best=0.0),
    "of_the_set": Metric(lambda items, test: 1.0, "test", "higher"),
}


def evaluate(
    metrics: dict[str, Metric], items: list[float], present: list[bool], sampled: list[float]
) -> dict[str, Any]:
    """The scores of `b`, sampled given nothing and given the `a` of each row."""
    methods = {"kind": "number", "latent_dim": 1, "metrics": lambda self: metrics}
    modality: Any = object.__new__(type("Number", (Modality,), methods | IMPLEMENTED))
    column, recorded = torch.tensor(items)[:, None], torch.tensor(present)
    rows = SplitRows(
        ids=tuple(map(str, range(len(items)))),
        items={
            "a": Items.of(modality, torch.zeros_like(column), torch.ones_like(recorded)),
            "b": Items.of(modality, column[recorded], recorded),
        },
        present=torch.stack([torch.ones_like(recorded), recorded], 1),
        labels=None,
    )
    data: Any = SimpleNamespace(split=lambda name: rows, train=rows, classes=())
    names, autoencoder = ("a", "b"), Identity()
    modalities: Any = dict.fromkeys(names, modality)
    networks: Any = dict.fromkeys(names, autoencoder)
    z, indices = torch.tensor(sampled)[:, None], torch.arange(len(sampled))
    samples = [
        SubsetSamples((), indices, {"a": z, "b": z}, 1, 0.1, {}),
        SubsetSamples(("a",), indices, {"b": z}, 1, 0.1, {}),
    ]
    evaluators = {
        name: build_evaluator(name, modality, networks[name], None, None, data, "test")
        for name in names
    }
    table = EvaluationTable(evaluators, networks, modalities, data, "test", samples, seed=0)
    return table.as_json()


def test_frechet_distances_of_latents_are_warned_of() -> None:
    # There is neither a classifier nor a judge.
    scores = evaluate(METRICS, [1.0, 2.0, 3.0], [True] * 3, [1.5, 2.0, 3.0])
    assert {row["extractor"].split(" of ")[0] for row in scores["frechet"]} == {"latents"}
    assert any(
        "Frechet distances of a, b are of the latents" in each for each in scores["warnings"]
    )


def conditional_metrics(*args: Any) -> list[dict[str, Any]]:
    scores: list[dict[str, Any]] = evaluate(*args)["conditional_metrics"]
    return scores


def test_samples_are_compared_with_the_recorded_items_of_their_rows() -> None:
    # The row without an item, and the last one, which no sample was given, do not count.
    scores = conditional_metrics(
        METRICS, [1.0, 2.0, 9.0, 4.0, 5.0], [True, True, False, True, True], [1.5, 2.0, 0.0, 3.0]
    )
    assert scores == [
        {
            "given": ["a"],
            "target": "b",
            "metric": "error",
            "against": "truth",
            "of": "one sample",
            "value": 0.5,
            "low": None,
            "high": None,
            "n": 3,
            "better": "lower",
            "best": 0.0,
            "unit": "m",
        },
        {
            "given": ["a"],
            "target": "b",
            "metric": "undefined",
            "against": "truth",
            "of": "one sample",
            "value": None,
            "low": None,
            "high": None,
            "n": 3,
            "better": "higher",
            "best": None,
            "unit": "",
        },
    ]


def test_metrics_of_reconstructions_and_of_unrelated_rows() -> None:
    # The errors of three rows, each beside another one: 1 + 2 + 3, in either order.
    scores = evaluate(METRICS, [0.0, 1.0, 3.0, 9.0], [True, True, True, False], [0.0])
    metrics = scores["modalities"]["b"]["metrics"]
    assert (metrics["error"]["value"], metrics["error"]["of"]) == (0, "reconstructions")
    assert metrics["error"]["unrelated"] == 2
    assert metrics["of_reconstructions"]["unrelated"] is None
    assert metrics["of_the_set"]["unrelated"] is None
    single = evaluate(METRICS, [0.0], [True], [0.0])["modalities"]["b"]["metrics"]
    assert single["error"]["unrelated"] is None


def test_interval_is_that_of_a_mean_and_ends_at_the_best_value() -> None:
    # Row i is in group i mod 4; the errors of the groups are 0, 0, 0 and 4: a mean of 1 with a
    # standard error of 1, and t(3) = 3.18245.
    sampled = [4.0 if row % 4 == 3 else 0.0 for row in range(40)]
    error, *_ = conditional_metrics(METRICS, [0.0] * 40, [True] * 40, sampled)
    assert (error["value"], error["n"]) == (1.0, 40)
    assert error["high"] == pytest.approx(1 + 3.18245, abs=1e-4)
    assert error["low"] == 0
    higher = {**METRICS, "error": Metric(mean_error, "truth", "higher", best=2.0)}
    error, *_ = conditional_metrics(higher, [0.0] * 40, [True] * 40, sampled)
    assert error["low"] == pytest.approx(1 - 3.18245, abs=1e-4)
    assert error["high"] == 2


def test_a_target_that_no_row_has_is_left_out() -> None:
    assert conditional_metrics(METRICS, [1.0, 2.0], [False, True], [3.0]) == []


@pytest.mark.parametrize(("n", "half_width"), [(29, None), (30, 4.30265 / 3**0.5)])
def test_interval_needs_three_groups_of_ten_rows(n: int, half_width: float | None) -> None:
    values = iter([0.0, 1.0, 2.0])  # a standard deviation of 1
    assert group_half_width(lambda rows: next(values), n) == pytest.approx(half_width, abs=1e-5)


def test_interval_needs_a_value_of_each_group_and_a_spread() -> None:
    assert group_half_width(lambda rows: 0.0, 50) is None
    assert group_half_width(lambda rows: None if rows[0] else 1.0, 50) is None
