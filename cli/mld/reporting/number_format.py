"""Numbers, and what they are, as text for pages and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping


def format_number(value: float | None) -> str:
    """Three significant digits; integers in full, None as a dash."""
    if value is None:
        return "–"
    if value == round(value):
        return with_minus_sign(f"{value:,.0f}")
    digits = 2 - math.floor(math.log10(abs(value)))
    return with_minus_sign(f"{value:,.{max(digits, 0)}f}" if digits < 7 else f"{value:.2e}")


def format_fixed(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """A fixed number of digits behind the point; with a plus sign too if `signed`."""
    return with_minus_sign(f"{value:{'+' if signed else ''}.{digits}f}")


def format_tick(value: float) -> str:
    """The label of an axis tick, short enough for the margin: from 10,000 on in k, M or G."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e4):
            return with_minus_sign(f"{value / unit:,.4g}{suffix}")
    return with_minus_sign(f"{value:,.6g}")


def format_interval(interval: Mapping[str, float]) -> str:
    """The bounds of a confidence interval, `low` and `high`."""
    return f"{interval['low']:.2f}–{interval['high']:.2f}"


def metric_title(name: str, unit: str, better: str, best: float | None) -> str:
    """A plugin's metric with its unit, and an arrow: up, down, or to the value to be near to."""
    arrow = {"higher": "↑", "lower": "↓", "nearer": f"→ {format_number(best)}"}[better]
    return f"{name.replace('_', ' ')}{', ' if unit else ''}{unit} {arrow}"


def format_duration(seconds: float) -> str:
    """A duration in the two largest units that matter, from milliseconds to hours."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def with_minus_sign(text: str) -> str:
    """Text with typographic minus signs in place of hyphens."""
    return text.replace("-", "−")
