"""A small plot of a vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT, MARGIN = 240, 90, 4
MAX_POINTS = 960
"""Points that are drawn; a longer vector is drawn by the extremes of its parts."""


def draw_line(values: Sequence[float]) -> str:
    """The values in order from left to right, the least at the bottom, as SVG."""
    y = np.asarray(values, dtype=np.float64)
    x = np.linspace(0, 1, len(y)) if len(y) > 1 else np.full(1, 0.5)
    if len(y) > MAX_POINTS:
        parts = np.array_split(np.arange(len(y)), MAX_POINTS // 2)
        extremes = [part[np.argsort(y[part], kind="stable")[[0, -1]]] for part in parts]
        index = np.sort(np.concatenate(extremes))
        x, y = x[index], y[index]
    # Halved, since the difference of two numbers may be beyond the range of a float.
    low, half_range = y.min(), y.max() / 2 - y.min() / 2
    height = (y / 2 - low / 2) / half_range if half_range > 0 else np.full(len(y), 0.5)
    left = MARGIN + x * (WIDTH - 2 * MARGIN)
    top = HEIGHT - MARGIN - height * (HEIGHT - 2 * MARGIN)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(left, top, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<polyline points="{points}" fill="none" stroke="#2b5d8a" stroke-width="1.5"/>'
        f'<text x="{WIDTH - MARGIN}" y="12" font-family="sans-serif" font-size="9" '
        f'text-anchor="end" fill="#555">{y.min():.4g} to {y.max():.4g}</text></svg>\n'
    )
