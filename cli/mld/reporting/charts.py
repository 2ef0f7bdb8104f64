"""Small charts as inline SVG; colour and type come from the style sheet of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

_WIDTH, _HEIGHT = 240, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 224, 12, 136
_BLOCKS = 120
_SPOTS = 25


@dataclass(frozen=True)
class Dot:
    """One value on a dot track, with its interval where it has one; hollow for a reference."""

    value: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False


def dot_track(dots: Sequence[Dot], limit: float, mark: float | None = None) -> Markup:
    """Dots on a line from 0 to `limit`, as wide as its place; `mark` is a tick across the line."""

    def along(value: float) -> str:
        return f"{100 * min(max(value / limit, 0.0), 1.0):.2f}%"

    parts = [Markup('<line class="track" x1="0" x2="100%" y1="9" y2="9"/>')]
    if mark is not None:
        line = Markup('<line class="mark" x1="{0}" x2="{0}" y1="1" y2="17"/>')
        parts.append(line.format(along(mark)))
    for dot in dots:
        if dot.low is not None and dot.high is not None:
            span = Markup('<line class="span" x1="{}" x2="{}" y1="9" y2="9"/>')
            parts.append(span.format(along(dot.low), along(dot.high)))
        circle = Markup('<circle class="{}" cx="{}" cy="9" r="4.5"/>')
        parts.append(circle.format("hollow" if dot.hollow else "dot", along(dot.value)))
    body = Markup("").join(parts)
    return Markup('<svg class="dots" height="18" aria-hidden="true">{}</svg>').format(body)


def line_chart(
    train: Sequence[Point], validation: Sequence[Point], steps: int, label: str
) -> Markup:
    """Training and validation loss as two lines over the optimiser's steps.

    The vertical axis is logarithmic where all losses are positive and span a factor of 8 or more.
    It is made for what follows the first twentieth of the steps: an earlier spike leaves the
    frame. A long line is drawn as the means of equal blocks; a short validation line has dots.
    """
    settled = [y for x, y in [*train, *validation] if x > steps / 20]
    heights = settled or [y for _, y in [*train, *validation]]
    low, high = min(heights), max(heights)
    log = low > 0 and high / low >= 8
    if not log:
        room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
        low, high = low - room, high + room

    def across(x: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * x / steps

    def up(y: float) -> float:
        share = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return _BOTTOM - (_BOTTOM - _TOP) * share

    def placed(points: Sequence[Point]) -> list[Point]:
        return [(across(x), up(y)) for x, y in points if low <= y <= high]

    body = [
        *(
            _height(up(tick), f"{tick:,.6g}")
            for tick in (decades if log else even_steps)(low, high)
        ),
        *(_update(across(tick), f"{tick:,.6g}") for tick in (0, steps)),
        Markup('<text class="log" x="{}" y="{}">log</text>').format(_RIGHT, _TOP) if log else "",
        _line(placed(_blocks(train)), "train"),
        _line(placed(_blocks(validation)), "validation"),
        *(_spot(x, y) for x, y in placed(validation) if len(validation) <= _SPOTS),
    ]
    frame = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(_WIDTH, _HEIGHT, label, Markup("").join(body))


def _blocks(points: Sequence[Point]) -> list[Point]:
    size = math.ceil(len(points) / _BLOCKS) or 1
    blocks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(_mean([x for x, _ in block]), _mean([y for _, y in block])) for block in blocks]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def even_steps(low: float, high: float) -> list[float]:
    """Two to six round numbers between low and high, evenly apart."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between low and high, and their two- and fivefold where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    fine = [tick for tick in fine if low <= tick <= high]
    return fine if len(fine) <= 7 else [tick for tick in fine if tick in {10.0**p for p in powers}]


def _line(points: Sequence[Point], style: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, path)


def _spot(x: float, y: float) -> Markup:
    return Markup('<circle class="spot" cx="{}" cy="{}" r="2.2"/>').format(f"{x:.1f}", f"{y:.1f}")


def _height(y: float, told: str) -> Markup:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
    text = Markup('<text class="at-left" x="{}" y="{y}" dy="0.32em">{}</text>')
    told = told.replace("-", "−")
    place = f"{y:.1f}"
    return grid.format(_LEFT, _RIGHT, y=place) + text.format(_LEFT - 6, told, y=place)


def _update(x: float, told: str) -> Markup:
    text = Markup('<text class="below" x="{}" y="{}">{}</text>')
    return text.format(f"{x:.1f}", _BOTTOM + 18, told)
