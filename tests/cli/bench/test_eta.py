"""Estimates of time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mld.bench.eta import Forecast
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial


def test_forecast_is_the_mean_of_the_most_similar(
    suite_dir: SuiteDir, trials: list[Trial], finish: Callable[..., None]
) -> None:
    assert not Forecast(suite_dir, trials).measured
    finish(suite_dir, trials[0].key, 0.5)
    forecast = Forecast(suite_dir, trials)
    assert forecast.seconds(trials[3]) == pytest.approx(6 * 1.0 + 12.5)
    forecast.add(trials[2], 40.0)
    last = trials[3]
    assert (last.coordinates.method, forecast.seconds(last)) == ("paper", 40.0)
    assert forecast.total_seconds([last, last]) == 80.0
