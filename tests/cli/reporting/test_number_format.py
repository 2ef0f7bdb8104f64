"""Numbers as text."""

from __future__ import annotations

import pytest

from mld.reporting.number_format import format_tick


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (-2.5, "−2.5"),
        (1300, "1,300"),
        (9999, "9,999"),
        (10_000, "10k"),
        (-350_000, "−350k"),
        (2_500_000, "2.5M"),
        (4e9, "4G"),
    ],
)
def test_labels_of_ticks_are_short(value: float, text: str) -> None:
    assert format_tick(value) == text
