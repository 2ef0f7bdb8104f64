from __future__ import annotations

import re

import pytest

from mld.reporting.charts import Dot, dot_track, line_chart


def test_dots_stand_where_their_values_are() -> None:
    track = dot_track([Dot(0.5, 0.25, 0.75), Dot(2.0, hollow=True)], limit=1, mark=0.1)
    assert '<circle class="dot" cx="50.00%"' in track
    assert '<circle class="hollow" cx="100.00%"' in track
    assert 'class="span" x1="25.00%" x2="75.00%"' in track
    assert 'class="mark" x1="10.00%"' in track


def heights(chart: str, style: str = "train") -> list[float]:
    (points,) = re.findall(rf'<polyline class="{style}" points="([^"]*)"', chart)
    return [float(point.partition(",")[2]) for point in points.split()]


def test_a_wide_positive_loss_has_a_logarithmic_axis() -> None:
    top, middle, bottom = heights(line_chart([(10, 100.0), (50, 10.0), (100, 1.0)], [], 100, ""))
    assert middle == pytest.approx((top + bottom) / 2, abs=0.1)
    top, middle, bottom = heights(line_chart([(10, 3.0), (50, 2.0), (100, 1.0)], [], 100, ""))
    assert middle == pytest.approx((top + bottom) / 2, abs=0.1)


def test_an_early_spike_leaves_the_frame_and_a_flat_loss_stays_in_it() -> None:
    assert len(heights(line_chart([(1, 1e6), (50, -2.0), (100, -3.0)], [], 100, ""))) == 2
    assert len(set(heights(line_chart([(50, 2.0), (100, 2.0)], [], 100, "")))) == 1
    assert len(heights(line_chart([(x, 2.0) for x in range(5000)], [], 5000, ""))) <= 120


def test_a_chart_escapes_its_label() -> None:
    assert "&lt;b&gt;" in line_chart([(1, 2.0)], [(1, 3.0)], 1, "<b>")
