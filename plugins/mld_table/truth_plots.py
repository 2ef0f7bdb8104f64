"""Pictures of draws of rows beside what the rows hold, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from jaxtyping import Float64, Int64

from mld_table.number_summary import INTERVAL, MIN_DRAWS, prediction_interval

MAX_POINTS = 300
"""Rows that are drawn of numbers: the first ones."""
MAX_CLASSES = 16
"""With more classes than these there is no picture."""
MAX_LABEL = 12
"""Characters of a class's name that are shown."""
SIDE, MARGIN = 240, 40
"""Of the plotting area, and around it."""
CELL, LABEL_WIDTH = 34, 90


def draw_estimates(
    draws: Float64[np.ndarray, "row draw"], truth: Float64[np.ndarray, " row"], unit: str
) -> str:
    """The median of each row's draws over its truth, with the 80 % interval from nine draws on."""
    draws, truth = draws[:MAX_POINTS], truth[:MAX_POINTS]
    medians = np.median(draws, axis=1)
    ends = [medians, medians]
    if draws.shape[1] >= MIN_DRAWS:
        ends = [*prediction_interval(draws.T, INTERVAL)]
    low, high = min(truth.min(), ends[0].min()), max(truth.max(), ends[1].max())
    extent = (high - low) or 1.0

    def place(values: np.ndarray) -> list[float]:
        return [*(SIDE * (values - low) / extent)]

    left = [MARGIN + x for x in place(truth)]
    bottom, top, middle = (
        [MARGIN + SIDE - y for y in place(values)] for values in (*ends, medians)
    )
    intervals = "".join(
        f"M{x:.1f} {y:.1f}V{z:.1f}" for x, y, z in zip(left, bottom, top, strict=True)
    )
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(left, middle, strict=True))
    end, suffix = MARGIN + SIDE, f", {escape(unit)}" if unit else ""
    return _svg(
        2 * MARGIN + SIDE,
        2 * MARGIN + SIDE,
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIDE}" height="{SIDE}" fill="none" '
        f'stroke="#ccc"/><path d="M{MARGIN} {end}L{end} {MARGIN}" stroke="#999"/>'
        f'<path d="{intervals}" stroke="#2b5d8a" stroke-opacity="0.35"/>'
        f'<path d="{dots}" stroke="#2b5d8a" stroke-width="4" stroke-linecap="round"/>'
        + _text(MARGIN, end + 14, f"{low:.4g}", "start")
        + _text(end, end + 14, f"{high:.4g}", "end")
        + _text(MARGIN + SIDE / 2, end + 28, f"truth{suffix}", "middle")
        + _text(MARGIN, MARGIN - 8, f"estimate{suffix}", "start"),
    )


def draw_confusion(
    draws: Int64[np.ndarray, "row draw"], truth: Int64[np.ndarray, " row"], names: Sequence[str]
) -> str:
    """The share of each class among the draws of rows of each class; "" for many classes."""
    n = len(names)
    if n > MAX_CLASSES:
        return ""
    labels = [
        escape(name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…") for name in names
    ]
    body = [_text(LABEL_WIDTH, 12, "draws", "start"), _text(4, LABEL_WIDTH - 6, "truth", "start")]
    for i, label in enumerate(labels):
        x = LABEL_WIDTH + CELL * (i + 0.5)
        body.append(
            f'<text x="0" y="0" transform="translate({x + 3} {LABEL_WIDTH - 6}) rotate(-60)" '
            f'font-size="10">{label}</text>'
        )
        rows = draws[truth == i]
        y = LABEL_WIDTH + CELL * i
        body.append(_text(LABEL_WIDTH - 6, y + CELL / 2 + 4, label, "end"))
        for j in range(n):
            share = float((rows == j).mean()) if len(rows) else 0.0
            left = LABEL_WIDTH + CELL * j
            body.append(
                f'<rect x="{left}" y="{y}" width="{CELL}" height="{CELL}" fill="#2b5d8a" '
                f'fill-opacity="{0.8 * share:.3f}" stroke="#ccc"/>'
            )
            if len(rows):
                text = f"{100 * share:.0f}"
                body.append(_text(left + CELL / 2, y + CELL / 2 + 4, text, "middle"))
    side = LABEL_WIDTH + CELL * n
    return _svg(side + MARGIN, side + 4, "".join(body))


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="10" text-anchor="{anchor}">{text}</text>'


def _svg(width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="sans-serif" fill="#333">'
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>{body}</svg>\n'
    )
