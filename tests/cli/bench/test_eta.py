"""Estimates of time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mld.bench.eta import ROWS_PER_SECOND, Forecast
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial


def test_forecast_is_the_mean_of_the_most_similar(
    suite_dir: SuiteDir, trials: list[Trial], finish: Callable[..., None]
) -> None:
    rough = Forecast(suite_dir, trials)
    assert not rough.measured
    # Two seeds: two autoencoders and two classifiers each, and four networks of 16 rows.
    rows = 2 * ((5 + 6) * 128 + 2 * 5 * 128) + 4 * 5 * 16
    assert rough.total_seconds(trials, 2) == pytest.approx(rows / ROWS_PER_SECOND / 2)
    finish(suite_dir, trials[0].key, 0.5)
    forecast = Forecast(suite_dir, trials)
    assert forecast.seconds(trials[3]) == pytest.approx(6 * 1.0 + 12.5)
    forecast.add(trials[2], 40.0)
    last = trials[3]
    assert (last.coordinates.method, forecast.seconds(last)) == ("paper", 40.0)
