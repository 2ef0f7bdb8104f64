from __future__ import annotations

import re

import pytest

from mld.reporting.charts import Dot, Point, Series, dot_track, line_chart, scatter_chart


def test_dots_are_at_their_values() -> None:
    track = dot_track([Dot(0.5, 0.25, 0.75), Dot(2.0, hollow=True)], limit=1, mark=0.1)
    assert '<circle class="dot" cx="50.00%"' in track
    assert '<circle class="hollow" cx="100.00%"' in track
    assert 'class="span" x1="25.00%" x2="75.00%"' in track
    assert 'class="mark" x1="10.00%"' in track


def heights(chart: str, style: str = "train") -> list[float]:
    (points,) = re.findall(rf'<polyline class="{style}" points="([^"]*)"', chart)
    return [float(point.partition(",")[2]) for point in points.split()]


def test_losses_over_a_wide_range_have_a_log_axis() -> None:
    top, middle, bottom = heights(line_chart([(10, 100.0), (50, 10.0), (100, 1.0)], [], 100, ""))
    assert middle == pytest.approx((top + bottom) / 2, abs=0.1)
    top, middle, bottom = heights(line_chart([(10, 3.0), (50, 2.0), (100, 1.0)], [], 100, ""))
    assert middle == pytest.approx((top + bottom) / 2, abs=0.1)


def test_early_spikes_are_clipped_and_flat_losses_are_not() -> None:
    assert len(heights(line_chart([(1, 1e6), (50, -2.0), (100, -3.0)], [], 100, ""))) == 2
    assert len(set(heights(line_chart([(50, 2.0), (100, 2.0)], [], 100, "")))) == 1
    assert len(heights(line_chart([(x, 2.0) for x in range(5000)], [], 5000, ""))) <= 120


def test_chart_labels_are_escaped() -> None:
    assert "&lt;b&gt;" in line_chart([(1, 2.0)], [(1, 3.0)], 1, "<b>")


def test_scatter_points_are_at_their_values() -> None:
    chart = scatter_chart(
        [Series(0, [Point(1, 0.5, "x"), Point(10, 0.6, "y")]), Series(1, [Point(100, 0.7, "<z>")])],
        "NFE",
        "coherence",
    )
    positions = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", chart)
    (x1, y1), (x2, y2), (x3, y3) = ((float(x), float(y)) for x, y in positions)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)  # a logarithmic axis
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert "&lt;z&gt;" in chart
    assert scatter_chart([Series(0, [Point(1, 1, "x")])], "NFE", "coherence") == ""


def test_proportions_have_a_linear_axis() -> None:
    points = [Point(x, proportion, "") for x, proportion in enumerate((0.05, 0.5, 0.95))]
    chart = scatter_chart([Series(0, points)], "NFE", "coherence")
    low, middle, high = (float(y) for y in re.findall(r"translate\([\d.]+ ([\d.]+)\)", chart))
    assert low - middle == pytest.approx(middle - high, abs=0.2)
