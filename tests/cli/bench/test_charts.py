"""The charts of a leaderboard: which there are, and which results each shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mld.bench.charts import group_charts


def charts_by_title(suite: Any) -> dict[str, str]:
    return {chart.title: chart.svg for chart in group_charts(suite.spec, suite.group)}


def test_fixed_missing_rate_is_in_charts_of_all_rates(finish_suite: Callable[..., Any]) -> None:
    axes = (
        "methods: {one: {}, two: {data.missing.rate: 0.3}}\nmissing: [0, 0.5]\nguidance: [0, 1]\n"
    )
    charts = charts_by_title(finish_suite(axes))
    assert charts["Cost, missing 0.5"].count("<title>two") == 2
    assert "<title>two" not in charts["Missing cells, guidance 1"]


def test_solvers_are_series_and_strengths_are_charts(finish_suite: Callable[..., Any]) -> None:
    axes = (
        "modalities: [[a, b]]\nguidance: [0, 1]\nsamplers: [{sampler: ddim, steps: 5}, "
        "{sampler: ddim, steps: 10}, {sampler: heun, steps: 5}]\n"
    )
    metrics = {
        "ddim 5": (0.6, 30.0, 5.0),
        "ddim 10": (0.7, 25.0, 10.0),
        "heun 5": (0.65, 28.0, 10.0),
    }
    suite = finish_suite(axes, metrics, key=lambda coordinates: coordinates.sampler)
    charts = charts_by_title(suite)
    assert {title for title in charts if "Cost" in title} == {
        "Cost, guidance 0",
        "Cost, guidance 1",
    }
    assert charts["Cost, guidance 0"].count('<polyline class="trail s0"') == 1
    assert charts["Cost, guidance 0"].count("<title>") == 3
