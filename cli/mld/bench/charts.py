"""The charts of a leaderboard: coherence against quality, cost, and the rate of missing cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from markupsafe import Markup

from mld.bench.aggregate import VariantResult
from mld.bench.suite import SuiteSpec
from mld.bench.tables import Group
from mld.reporting.charts import Point, Series, legend_mark, scatter_chart

Position = tuple[float, float]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Chart:
    """One chart and its title."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class Facet:
    """The results that share a chart: those with these values, where None stands for all."""

    missing: float | None = None
    guidance: str | None = None
    sampler: str | None = None

    @property
    def suffix(self) -> str:
        """The end of a chart's title, such as ", missing 0.5, guidance 1"."""
        missing = None if self.missing is None else f"missing {self.missing:g}"
        guidance = None if self.guidance is None else f"guidance {self.guidance}"
        parts = (missing, guidance, self.sampler)
        return "".join(f", {part}" for part in parts if part is not None)

    def __contains__(self, result: VariantResult) -> bool:
        """Whether a result belongs here; a method that sets an axis itself does for all values."""
        coordinates = result.coordinates
        return (
            (self.missing is None or coordinates.missing in (None, self.missing))
            and (self.guidance is None or coordinates.guidance_label in ("", self.guidance))
            and (self.sampler is None or coordinates.sampler in ("", self.sampler))
        )


class _SeriesBuilder:
    """Splits the results of a group into series.

    A series is a method, or a method with one solver where several are varied. It runs through the
    numbers of steps and, unless each guidance strength has its own chart, through these.
    """

    def __init__(self, spec: SuiteSpec, group: Group) -> None:
        self._solver_of_sampler = {
            label: str(settings.get("sampler", label))
            for label, (_, settings) in spec.sampler_settings().items()
        }
        self._several_solvers = len(set(self._solver_of_sampler.values())) > 1
        self._results = group.results
        self.names = list(dict.fromkeys(map(self.name, group.results)))
        all_coordinates = [result.coordinates for result in group.results]
        rates = _axis_values(coordinates.missing for coordinates in all_coordinates)
        strengths = _axis_values(
            coordinates.guidance_label or None for coordinates in all_coordinates
        )
        samplers = _axis_values(coordinates.sampler or None for coordinates in all_coordinates)
        vary_strength, vary_sampler = len(strengths) > 1, len(samplers) > 1
        self.facets = [
            Facet(rate, strength)
            for rate, strength in product(
                rates if vary_strength or vary_sampler else [None],
                strengths if vary_sampler else [None],
            )
        ]
        self.facets_of_missing_chart = (
            [Facet(None, strength, sampler) for strength, sampler in product(strengths, samplers)]
            if len(rates) > 1
            else []
        )

    def name(self, result: VariantResult) -> str:
        """The name of a result's series, as shown in the legend."""
        sampler = result.coordinates.sampler
        solver = self._solver_of_sampler.get(sampler, "") if self._several_solvers else ""
        return " · ".join(part for part in (result.coordinates.method, solver) if part)

    def series(
        self, facet: Facet, position: Callable[[VariantResult], Position | None]
    ) -> list[Series]:
        """The series of one facet, with a point for each result that has a position."""
        all_series = []
        for style, name in enumerate(self.names):
            points = [
                Point(*xy, result.variant)
                for result in self._results
                if self.name(result) == name and result in facet and (xy := position(result))
            ]
            if points:
                all_series.append(Series(style, points))
        return all_series


def _axis_values(values: Iterable[Value | None]) -> list[Value | None]:
    """The distinct values in order of appearance; [None] if there are fewer than two."""
    distinct: list[Value | None] = [value for value in dict.fromkeys(values) if value is not None]
    return distinct if len(distinct) > 1 else [None]


def group_charts(spec: SuiteSpec, group: Group) -> list[Chart]:
    """The charts of a group; a chart with fewer than two points is left out."""
    builder = _SeriesBuilder(spec, group)
    costs = {figure.value for result in group.results if (figure := result.figure("nfe"))}
    charts = []
    for facet in builder.facets:
        for name in group.modalities:
            series = builder.series(facet, _coherence_against(f"joint>{name} frechet"))
            title = f"Quality of {name}{facet.suffix}"
            charts.append((title, series, f"Frechet distance, {name}"))
        if len(costs) > 1:
            series = builder.series(facet, _coherence_against("nfe"))
            charts.append((f"Cost{facet.suffix}", series, "network evaluations per sample"))
    for facet in builder.facets_of_missing_chart:
        series = builder.series(facet, _coherence_against_missing_rate)
        charts.append((f"Missing cells{facet.suffix}", series, "rate of missing cells"))
    drawn = [
        Chart(title, scatter_chart(series, x_title, "joint coherence"))
        for title, series, x_title in charts
    ]
    return [chart for chart in drawn if chart.svg]


def _coherence_against(column: str) -> Callable[[VariantResult], Position | None]:
    def position(result: VariantResult) -> Position | None:
        x, y = result.figure(column), result.figure("joint_coherence")
        return (x.value, y.value) if x and y else None

    return position


def _coherence_against_missing_rate(result: VariantResult) -> Position | None:
    rate, coherence = result.coordinates.missing, result.figure("joint_coherence")
    return (rate, coherence.value) if coherence and rate is not None else None


def legend(spec: SuiteSpec, group: Group) -> list[tuple[Markup, str]]:
    """Marker and name of each series."""
    names = _SeriesBuilder(spec, group).names
    return [(legend_mark(style), name) for style, name in enumerate(names)]
