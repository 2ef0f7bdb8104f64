"""Small charts as inline SVG; colours and fonts come from the style sheet of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mld.reporting.number_format import format_tick

Coordinates = tuple[float, float]

LOG_SCALE_RATIO = 8
"""An axis is logarithmic where its positive values span at least this factor."""
MAX_BLOCKS = 120
"""A line with more points is drawn as the means of this many blocks."""
MAX_DOTTED_POINTS = 25
"""A validation line with more points is drawn without dots."""
NUM_COLOURS = 6
"""Series colours in the style sheet; with five shapes, 30 series look different."""
_MARKER_RADIUS = 5.0
_MARKER_SHAPES = (
    '<circle r="{0}"/>',
    '<rect x="-{0}" y="-{0}" width="{1}" height="{1}"/>',
    '<path d="M0 -{1} L{1} {0} L-{1} {0} Z" transform="scale(.75)"/>',
    '<path d="M0 -{1} L{1} 0 L0 {1} L-{1} 0 Z" transform="scale(.68)"/>',
    '<path d="M0 {1} L{1} -{0} L-{1} -{0} Z" transform="scale(.75)"/>',
)


@dataclass(frozen=True)
class Dot:
    """One value on a dot track, with its interval where it has one; hollow for a reference."""

    value: float
    low: float | None = None
    high: float | None = None
    hollow: bool = False


@dataclass(frozen=True)
class Point:
    """One named point of a scatter chart."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Series:
    """Points joined in their order; `style` is an index that selects marker shape and colour."""

    style: int
    points: Sequence[Point]


def dot_track(dots: Sequence[Dot], limit: float, mark: float | None = None) -> Markup:
    """Dots on a line from 0 to `limit`, as wide as its container; `mark` is a tick across it."""

    def percent(value: float) -> str:
        return f"{100 * min(max(value / limit, 0.0), 1.0):.2f}%"

    span = Markup('<line class="span" x1="{}" x2="{}" y1="9" y2="9"/>')
    circle = Markup('<circle class="{}" cx="{}" cy="9" r="4.5"/>')
    body = Markup('<line class="track" x1="0" x2="100%" y1="9" y2="9"/>')
    if mark is not None:
        body += Markup('<line class="mark" x1="{0}" x2="{0}" y1="1" y2="17"/>').format(
            percent(mark)
        )
    for dot in dots:
        if dot.low is not None and dot.high is not None:
            body += span.format(percent(dot.low), percent(dot.high))
        body += circle.format("hollow" if dot.hollow else "dot", percent(dot.value))
    return Markup('<svg class="dots" height="18" aria-hidden="true">{}</svg>').format(body)


def line_chart(
    train: Sequence[Coordinates], validation: Sequence[Coordinates], steps: int, label: str
) -> Markup:
    """Training and validation loss as two lines over optimiser steps.

    The vertical axis is logarithmic where all losses are positive and span a factor of 8 or more.
    It is scaled to the losses after the first twentieth of the steps, so an earlier spike may lie
    outside the frame and is clipped. A long line is drawn as the means of equal blocks; a short
    validation line has dots.
    """
    frame = _Frame(240, 160, left=38, right=224, top=12, bottom=136)
    points = [*train, *validation]
    losses = [y for x, y in points if x > steps / 20] or [y for _, y in points]
    low, high = min(losses), max(losses)
    log = _spans_log_scale(low, high)
    if not log:
        low, high = _padded(low, high, 0.06, 0.5)
    x_axis = _Axis(0, steps, frame.left, frame.right)
    y_axis = _Axis(low, high, frame.bottom, frame.top, log)

    def project(points: Sequence[Coordinates]) -> list[Coordinates]:
        return [(x_axis.project(x), y_axis.project(y)) for x, y in points if low <= y <= high]

    log_label = Markup('<text class="log" x="{}" y="{}">log</text>').format(frame.right, frame.top)
    body = [
        *(frame.y_tick(y_axis, tick) for tick in y_axis.ticks()),
        *(frame.text(x_axis.project(tick), 18, format_tick(tick)) for tick in (0, steps)),
        *([log_label] if log else []),
        _polyline(project(_block_means(train)), "train"),
        _polyline(project(_block_means(validation)), "validation"),
    ]
    if len(validation) <= MAX_DOTTED_POINTS:
        dot = Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="2.2"/>')
        body += [dot.format(x, y) for x, y in project(validation)]
    return frame.render(body, label)


def scatter_chart(series: Sequence[Series], x_title: str, y_title: str) -> Markup:
    """The points of all series, with a proportion in [0, 1] as y.

    The x axis is logarithmic where positive values span a factor of 8 or more. Empty with fewer
    than two points.
    """
    points = [point for line in series for point in line.points]
    if len(points) < 2:
        return Markup("")
    frame = _Frame(340, 250, left=40, right=328, top=14, bottom=204)
    x_axis = _x_axis([point.x for point in points], frame)
    y_axis = _proportion_axis([point.y for point in points], frame)
    body = [
        *(frame.y_tick(y_axis, tick) for tick in y_axis.ticks()),
        *(frame.x_tick(x_axis, tick) for tick in x_axis.ticks()),
        frame.text((frame.left + frame.right) / 2, frame.height - 8 - frame.bottom, x_title),
    ]
    for line in series:
        projected = [(x_axis.project(point.x), y_axis.project(point.y)) for point in line.points]
        if len(projected) > 1:
            body.append(_polyline(projected, f"trail s{line.style % NUM_COLOURS}"))
        for (x, y), point in zip(projected, line.points, strict=True):
            body.append(_marker(line.style, x, y, point.name))
    return frame.render(body, f"{y_title} against {x_title}")


def legend_mark(style: int) -> Markup:
    """The marker of a series, for a legend."""
    svg = Markup('<svg class="legend-mark" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>')
    return svg.format(_marker(style, 0, 0, ""))


@dataclass(frozen=True)
class _Axis:
    """Maps values from [low, high] to pixels from `start` to `end`, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def project(self, value: float) -> float:
        if self.log:
            fraction = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            fraction = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * fraction

    def ticks(self) -> list[float]:
        return (_log_ticks if self.log else _linear_ticks)(self.low, self.high)


@dataclass(frozen=True)
class _Frame:
    """Size of a chart and the edges of its plotting area, in pixels."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    def render(self, body: Iterable[Markup], label: str) -> Markup:
        svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
        return svg.format(self.width, self.height, label, Markup("").join(body))

    def y_tick(self, axis: _Axis, tick: float) -> Markup:
        grid = Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
        text = Markup('<text class="at-left" x="{}" y="{y}" dy="0.32em">{}</text>')
        y = f"{axis.project(tick):.1f}"
        label = text.format(self.left - 6, format_tick(tick), y=y)
        return grid.format(self.left, self.right, y=y) + label

    def x_tick(self, axis: _Axis, tick: float) -> Markup:
        grid = Markup('<line class="grid" y1="{}" y2="{}" x1="{x}" x2="{x}"/>')
        x = axis.project(tick)
        line = grid.format(self.bottom, self.bottom + 4, x=f"{x:.1f}")
        return line + self.text(x, 18, format_tick(tick))

    def text(self, x: float, below: float, text: str) -> Markup:
        """Text centred on x, some pixels below the plotting area."""
        element = Markup('<text class="below" x="{:.1f}" y="{}">{}</text>')
        return element.format(x, self.bottom + below, text)


def _spans_log_scale(low: float, high: float) -> bool:
    return low > 0 and high / low >= LOG_SCALE_RATIO


def _padded(low: float, high: float, by_range: float, by_value: float) -> tuple[float, float]:
    """Bounds widened by a fraction of their range, or of their value where they are equal."""
    padding = by_range * (high - low) or by_value * abs(high) or 1.0
    return low - padding, high + padding


def _x_axis(values: Sequence[float], frame: _Frame) -> _Axis:
    low, high = min(values), max(values)
    if _spans_log_scale(low, high):
        factor = (high / low) ** 0.06
        return _Axis(low / factor, high * factor, frame.left, frame.right, log=True)
    return _Axis(*_padded(low, high, 0.08, 0.1), frame.left, frame.right)


def _proportion_axis(values: Sequence[float], frame: _Frame) -> _Axis:
    """A linear axis that ends at 1, or at the largest value if that is greater."""
    low, high = _padded(min(values), max(values), 0.08, 0.1)
    return _Axis(low, min(high, max(1.0, *values)), frame.bottom, frame.top)


def _linear_ticks(low: float, high: float) -> list[float]:
    """Two to six evenly spaced round numbers between low and high."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between low and high, with their two- and fivefold where that makes few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [10.0**exponent for exponent in exponents]

    fine = [factor * power for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in fine if low <= tick <= high]
    return inside if len(inside) <= 7 else [tick for tick in powers if low <= tick <= high]


def _block_means(points: Sequence[Coordinates]) -> list[Coordinates]:
    size = math.ceil(len(points) / MAX_BLOCKS) or 1
    blocks = [zip(*points[i : i + size], strict=True) for i in range(0, len(points), size)]
    return [(sum(xs) / len(xs), sum(ys) / len(ys)) for xs, ys in blocks]


def _polyline(points: Sequence[Coordinates], style: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, path)


def _marker(style: int, x: float, y: float, name: str) -> Markup:
    shape = _MARKER_SHAPES[style % len(_MARKER_SHAPES)]
    shape = Markup(shape.format(_MARKER_RADIUS, 2 * _MARKER_RADIUS))
    title = Markup("<title>{}</title>").format(name) if name else Markup("")
    group = Markup('<g class="marker s{}" transform="translate({:.1f} {:.1f})">{}{}</g>')
    return group.format(style % NUM_COLOURS, x, y, title, shape)
