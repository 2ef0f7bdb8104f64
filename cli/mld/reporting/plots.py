"""Points of several series in one frame, as inline SVG; colour and type come from the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mld.reporting.charts import decades, even_steps

_WIDTH, _HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 328, 14, 204
_SIZE = 5.0
_SHAPES = (
    '<circle r="{0}"/>',
    '<rect x="-{0}" y="-{0}" width="{1}" height="{1}"/>',
    '<path d="M0 -{1} L{1} {0} L-{1} {0} Z" transform="scale(.75)"/>',
    '<path d="M0 -{1} L{1} 0 L0 {1} L-{1} 0 Z" transform="scale(.68)"/>',
    '<path d="M0 {1} L{1} -{0} L-{1} -{0} Z" transform="scale(.75)"/>',
)
COLOURS = 6
"""So many the page has; with the shapes, thirty series look different."""


@dataclass(frozen=True)
class Spot:
    """One point, and what it is called."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Series:
    """Points that belong together, joined in their order; `mark` chooses shape and colour."""

    mark: int
    spots: Sequence[Spot]


def scatter_chart(series: Sequence[Series], across: str, up: str) -> Markup:
    """Every series' points, across against a share; across is logarithmic where it spans a
    factor of 8. Nothing where there are fewer than two points."""
    spots = [spot for own in series for spot in own.spots]
    if len(spots) < 2:
        return Markup("")
    place_x, ticks_x = _axis([spot.x for spot in spots], _LEFT, _RIGHT)
    place_y, ticks_y = _axis([spot.y for spot in spots], _BOTTOM, _TOP, 1.0)
    body = [
        *(_height(place_y(tick), _read(tick)) for tick in ticks_y),
        *(_across(place_x(tick), _read(tick)) for tick in ticks_x),
        _title(across),
    ]
    for own in series:
        placed = [(place_x(spot.x), place_y(spot.y), spot.name) for spot in own.spots]
        if len(placed) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
            line = Markup('<polyline class="trail s{}" points="{}"/>')
            body.append(line.format(own.mark % COLOURS, path))
        body += [_marked(own.mark, x, y, name) for x, y, name in placed]
    frame = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    label = f"{up} against {across}"
    return frame.format(_WIDTH, _HEIGHT, label, Markup("").join(body))


def mark(number: int) -> Markup:
    """The mark of a series, for a legend."""
    frame = Markup('<svg class="mark-of" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>')
    return frame.format(_marked(number, 0, 0, ""))


def _marked(number: int, x: float, y: float, name: str) -> Markup:
    shape = Markup(_SHAPES[number % len(_SHAPES)].format(_SIZE, 2 * _SIZE))
    title = Markup("<title>{}</title>").format(name) if name else Markup("")
    group = Markup('<g class="spot-of s{}" transform="translate({:.1f} {:.1f})">{}{}</g>')
    return group.format(number % COLOURS, x, y, title, shape)


def _axis(
    values: Sequence[float], start: float, end: float, limit: float = math.inf
) -> tuple[Callable[[float], float], list[float]]:
    """Where a value stands between two ends of the frame, and the ticks to draw.

    An axis with a limit is even however far its values span.
    """
    low, high = min(values), max(values)
    log = math.isinf(limit) and low > 0 and high / low >= 8
    if log:
        room = (high / low) ** 0.06
        low, high = low / room, high * room
    else:
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - room, min(high + room, max(limit, high))

    def place(value: float) -> float:
        whole = math.log(high / low) if log else high - low
        part = math.log(value / low) if log else value - low
        return start + (end - start) * part / whole

    return place, (decades if log else even_steps)(low, high)


def _read(tick: float) -> str:
    return f"{tick:,.6g}".replace("-", "−")


def _height(y: float, told: str) -> Markup:
    grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
    text = Markup('<text class="at-left" x="{}" y="{y}" dy="0.32em">{}</text>')
    place = f"{y:.1f}"
    return grid.format(_LEFT, _RIGHT, y=place) + text.format(_LEFT - 6, told, y=place)


def _across(x: float, told: str) -> Markup:
    grid = Markup('<line class="grid" y1="{}" y2="{}" x1="{x}" x2="{x}"/>')
    text = Markup('<text class="below" x="{x}" y="{}">{}</text>')
    place = f"{x:.1f}"
    return grid.format(_BOTTOM, _BOTTOM + 4, x=place) + text.format(_BOTTOM + 18, told, x=place)


def _title(told: str) -> Markup:
    text = Markup('<text class="below" x="{}" y="{}">{}</text>')
    return text.format((_LEFT + _RIGHT) / 2, _HEIGHT - 8, told)
