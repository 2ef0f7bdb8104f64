"""The charts of a leaderboard: coherence or retrieval against quality, cost and missing cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from markupsafe import Markup

from mld.bench.aggregate import VariantResult
from mld.bench.suite import SuiteSpec
from mld.bench.tables import COLUMN_TITLES, Group
from mld.reporting.charts import Point, Series, legend_mark, scatter_chart

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
        self._column, _ = chart_measure(group)
        self.names = list(dict.fromkeys(map(self.name, group.results)))
        variants = [result.coordinates for result in group.results]
        rates = _axis_values(variant.missing for variant in variants)
        strengths = _axis_values(variant.guidance_label or None for variant in variants)
        samplers = _axis_values(variant.sampler or None for variant in variants)
        vary_sampler = len(samplers) > 1
        chart_rates = rates if vary_sampler or len(strengths) > 1 else [None]
        facets = product(chart_rates, strengths if vary_sampler else [None])
        self.facets = [Facet(rate, strength) for rate, strength in facets]
        facets_by_rate = product(strengths, samplers) if len(rates) > 1 else ()
        self.facets_of_missing_chart = [Facet(None, *settings) for settings in facets_by_rate]

    def name(self, result: VariantResult) -> str:
        sampler = result.coordinates.sampler
        solver = self._solver_of_sampler.get(sampler, "") if self._several_solvers else ""
        return " · ".join(part for part in (result.coordinates.method, solver) if part)

    def series(self, facet: Facet, column: str) -> list[Series]:
        """The charts' measure against a column of leaderboard.csv, for one facet's results."""
        points: dict[str, list[Point]] = {name: [] for name in self.names}
        for result in self._results:
            x, y = _value(result, column), result.figure(self._column)
            if result in facet and y and x is not None:
                points[self.name(result)].append(Point(x, y.value, result.variant))
        return [Series(style, points[name]) for style, name in enumerate(points) if points[name]]


def _axis_values(values: Iterable[Value | None]) -> list[Value | None]:
    """The distinct values in order of appearance; [None] if there are fewer than two."""
    distinct: list[Value | None] = [value for value in dict.fromkeys(values) if value is not None]
    return distinct if len(distinct) > 1 else [None]


def _value(result: VariantResult, column: str) -> float | None:
    if column == "missing":
        return result.coordinates.missing
    figure = result.figure(column)
    return figure.value if figure else None


def chart_measure(group: Group) -> tuple[str, str]:
    """The proportion that charts show, a column of leaderboard.csv, and its title.

    Joint coherence or, if no result has it, joint retrieval.
    """
    has_coherence = any(result.figure("joint_coherence") for result in group.results)
    column = "joint_coherence" if has_coherence else "joint_retrieval"
    return column, COLUMN_TITLES[column]


def group_charts(spec: SuiteSpec, group: Group) -> list[Chart]:
    """The charts of a group; a chart with fewer than two points is left out."""
    builder = _SeriesBuilder(spec, group)
    axes = [
        (f"Quality of {name}", f"joint>{name} frechet", f"Frechet distance, {name}")
        for name in group.modalities
    ]
    if len({figure.value for result in group.results if (figure := result.figure("nfe"))}) > 1:
        axes.append(("Cost", "nfe", "network evaluations per sample"))
    missing = ("Missing cells", "missing", "rate of missing cells")
    pairs = [*product(builder.facets, axes), *product(builder.facets_of_missing_chart, [missing])]
    charts = []
    _, y_title = chart_measure(group)
    for facet, (title, column, x_title) in pairs:
        svg = scatter_chart(builder.series(facet, column), x_title, y_title)
        charts.append(Chart(f"{title}{facet.suffix}", svg))
    return [chart for chart in charts if chart.svg]


def legend(spec: SuiteSpec, group: Group) -> list[tuple[Markup, str]]:
    """Marker and name of each series."""
    builder = _SeriesBuilder(spec, group)
    return [(legend_mark(style), name) for style, name in enumerate(builder.names)]
