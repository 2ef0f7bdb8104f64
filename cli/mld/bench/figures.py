"""What a leaderboard draws: coherence against quality, cost, and missing cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from markupsafe import Markup

from mld.bench.aggregate import Line
from mld.bench.suite import SuiteSpec
from mld.bench.tables import Group
from mld.reporting.charts import Point, Series, legend_mark, scatter_chart

Place = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One chart and its title."""

    title: str
    drawing: Markup


@dataclass(frozen=True)
class Facet:
    """Which lines share a chart: those with these values, where they have any; None is all."""

    missing: float | None = None
    guidance: str | None = None
    sampler: str | None = None

    def __str__(self) -> str:
        rate = None if self.missing is None else f"missing {self.missing:g}"
        strength = None if self.guidance is None else f"guidance {self.guidance}"
        return "".join(f", {own}" for own in (rate, strength, self.sampler) if own is not None)

    def holds(self, line: Line) -> bool:
        """Whether a line belongs to it; a method that settles an axis itself always does."""
        at = line.at
        return (
            (self.missing is None or at.missing in (None, self.missing))
            and (self.guidance is None or at.strength in ("", self.guidance))
            and (self.sampler is None or at.sampler in ("", self.sampler))
        )


class _Strands:
    """The lines of a group, strand by strand: those that are drawn as one series.

    A strand is a method, with a solver where several are varied; it goes through the steps and,
    unless these have charts of their own, the strengths of guidance.
    """

    def __init__(self, told: SuiteSpec, group: Group) -> None:
        sampling = told.sampling()
        self._solvers = {name: str(own.get("sampler", name)) for name, (_, own) in sampling.items()}
        self._many = len(set(self._solvers.values())) > 1
        self._lines = group.lines
        self.names = list(dict.fromkeys(map(self.name, group.lines)))
        rates = _varied(line.at.missing for line in group.lines)
        strengths = _varied(line.at.strength or None for line in group.lines)
        samplers = _varied(line.at.sampler or None for line in group.lines)
        apart = rates if strengths[1:] or samplers[1:] else [None]
        self.facets = [
            Facet(rate, strength)
            for rate, strength in product(apart, strengths if samplers[1:] else [None])
        ]
        self.with_rates = [Facet(None, *own) for own in product(strengths, samplers) if rates[1:]]

    def name(self, line: Line) -> str:
        """The strand of a line, as a legend calls it."""
        solver = self._solvers.get(line.at.sampler, "") if self._many else ""
        return " · ".join(part for part in (line.at.method, solver) if part)

    def series(self, facet: Facet, spot: Callable[[Line], Place | None]) -> list[Series]:
        """The strands of one facet, with a point for each line that has one."""
        found = []
        for number, name in enumerate(self.names):
            spots = [
                Point(*place, line.variant)
                for line in self._lines
                if self.name(line) == name and facet.holds(line) and (place := spot(line))
            ]
            if spots:
                found.append(Series(number, spots))
        return found


def _varied(values: Iterable[Any]) -> list[Any]:
    """The different values, in their order; [None] where they do not vary."""
    found = [value for value in dict.fromkeys(values) if value is not None]
    return found if len(found) > 1 else [None]


def charts_of(told: SuiteSpec, group: Group) -> list[Chart]:
    """The charts of a set of modalities; those that would hold fewer than two points are not."""
    strands = _Strands(told, group)
    costs = {figure.value for line in group.lines if (figure := line.figure("nfe"))}
    charts = []
    for facet in strands.facets:
        for name in group.modalities:
            series = strands.series(facet, _placed(f"joint>{name} frechet"))
            charts.append((f"Quality of {name}{facet}", series, f"Frechet distance, {name}"))
        if len(costs) > 1:
            series = strands.series(facet, _placed("nfe"))
            charts.append((f"Cost{facet}", series, "network evaluations a sample"))
    for facet in strands.with_rates:
        series = strands.series(facet, _missing)
        charts.append((f"Missing cells{facet}", series, "rate of missing cells"))
    drawn = [
        Chart(title, scatter_chart(series, across, "joint coherence"))
        for title, series, across in charts
    ]
    return [chart for chart in drawn if chart.drawing]


def _missing(line: Line) -> Place | None:
    rate, figure = line.at.missing, line.figure("joint_coherence")
    return (rate, figure.value) if figure and rate is not None else None


def _placed(across: str) -> Callable[[Line], Place | None]:
    def place(line: Line) -> Place | None:
        x, y = line.figure(across), line.figure("joint_coherence")
        return (x.value, y.value) if x and y else None

    return place


def legend_of(told: SuiteSpec, group: Group) -> list[tuple[Markup, str]]:
    """Mark and name of each strand."""
    return [(legend_mark(number), name) for number, name in enumerate(_Strands(told, group).names)]
