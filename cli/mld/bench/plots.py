"""Points of several methods in one frame, as inline SVG; numbered, with a key beneath."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 440, 14, 246


@dataclass(frozen=True)
class Series:
    """The points of one method: across, up, and what each is called."""

    name: str
    points: Sequence[tuple[float, float, str]]


def scatter_chart(series: Sequence[Series], across: str, up: str) -> Markup:
    """Every series' points; across is logarithmic where it spans a factor of 8; "" without two."""
    points = [point for own in series for point in own.points]
    if len(points) < 2:
        return Markup("")
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    log = min(xs) > 0 and max(xs) / min(xs) >= 8
    scale = math.log10 if log else float
    x_axis, y_axis = _Axis(list(map(scale, xs)), _LEFT, _RIGHT), _Axis(ys, _BOTTOM, _TOP)
    body = [_frame(x_axis, y_axis, log)]
    for index, own in enumerate(series):
        placed = [(x_axis.place(scale(x)), y_axis.place(y), name) for x, y, name in own.points]
        if len(placed) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in sorted(placed))
            body.append(Markup('<polyline class="trail" points="{}"/>').format(path))
        for x, y, name in placed:
            body.append(_point(x, y, index + 1, name))
    body.append(
        Markup('<text class="below" x="{}" y="{}">{}</text>').format(
            (_LEFT + _RIGHT) / 2, _HEIGHT - 12, f"{across}{', logarithmic' if log else ''}"
        )
    )
    label = f"{up} against {across}"
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    key = Markup("").join(Markup("<li>{}</li>").format(own.name) for own in series)
    return svg.format(_WIDTH, _HEIGHT, label, Markup("").join(body)) + Markup(
        '<ol class="legend">{}</ol>'
    ).format(key)


@dataclass(frozen=True)
class _Axis:
    values: Sequence[float]
    start: float
    end: float

    @property
    def ends(self) -> tuple[float, float]:
        low, high = min(self.values), max(self.values)
        room = 0.08 * (high - low) or 0.5 * abs(high) or 1.0
        return low - room, high + room

    def place(self, value: float) -> float:
        low, high = self.ends
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        low, high = self.ends
        rough = (high - low) / 4
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _frame(x_axis: _Axis, y_axis: _Axis, log: bool) -> Markup:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" dy="0.32em">{}</text>')
    parts = []
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        parts.append(grid.format(_LEFT, _RIGHT, f"{y:.1f}", f"{y:.1f}"))
        parts.append(text.format("at-left", _LEFT - 6, y, f"{tick:.6g}".replace("-", "−")))
    for tick in x_axis.ticks():
        told = f"{10**tick:.3g}" if log else f"{tick:.6g}"
        parts.append(text.format("below", x_axis.place(tick), _BOTTOM + 16, told))
    return Markup("").join(parts)


def _point(x: float, y: float, mark: int, name: str) -> Markup:
    spot = Markup('<g><title>{}</title><circle class="mark-{}" cx="{:.1f}" cy="{:.1f}" r="8"/>')
    told = Markup('<text class="on-mark" x="{:.1f}" y="{:.1f}" dy="0.34em">{}</text></g>')
    return spot.format(name, "first" if mark == 1 else "other", x, y) + told.format(x, y, mark)


__all__ = ["Series", "scatter_chart"]
