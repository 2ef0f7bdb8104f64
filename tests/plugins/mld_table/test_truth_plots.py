"""Pictures of draws beside the truth: what they show of known numbers and classes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mld_table.truth_plots import MARGIN, SIDE, draw_confusion, draw_estimates

RNG = np.random.default_rng(0)


def test_each_row_has_its_median_over_its_truth():
    draws = np.array([[0.0, 1.0, 2.0], [9.0, 10.0, 0.0]])
    svg = draw_estimates(draws, np.array([0.0, 10.0]), "a<b")
    ElementTree.fromstring(svg)
    # From 0 to 10: medians of 1 and 9, a tenth from the ends.
    dots = f"M{MARGIN}.0 {MARGIN + 0.9 * SIDE:.1f}h0M{MARGIN + SIDE}.0 {MARGIN + 0.1 * SIDE:.1f}h0"
    assert dots in svg
    assert "truth, a&lt;b" in svg


def test_intervals_need_nine_draws():
    for draws, has_interval in ((9, True), (8, False)):
        svg = draw_estimates(RNG.normal(size=(5, draws)), RNG.normal(size=5), "")
        (path,) = re.findall(r'<path d="([^"]*)" stroke="#2b5d8a" stroke-opacity', svg)
        ends = re.findall(r"M\S+ (\S+?)V([\d.]+)", path)
        assert len(ends) == 5
        assert all((a != b) == has_interval for a, b in ends)


@pytest.mark.parametrize("value", [0.0, 1e37])
def test_numbers_that_are_all_equal(value: float):
    svg = draw_estimates(np.full((3, 9), value), np.full(3, value), "")
    ElementTree.fromstring(svg)
    assert "nan" not in svg


def test_confusion_is_the_share_of_draws():
    draws, truth = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]]), np.array([0, 0, 1])
    svg = draw_confusion(draws, truth, ["<no>", "a very long name", "never"])
    ElementTree.fromstring(svg)
    shares = re.findall(r'text-anchor="middle">(\d+)<', svg)
    assert shares == ["75", "25", "0", "25", "75", "0"]  # no row has the third class
    assert "&lt;no&gt;" in svg
    assert "a very long…" in svg
    assert draw_confusion(draws, truth, [*map(str, range(17))]) == ""
