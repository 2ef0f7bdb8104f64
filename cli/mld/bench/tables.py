"""The tables of a leaderboard: variants as rows, metrics as columns, formatted as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, permutations

from mld.bench.aggregate import Figure, VariantResult, mean_difference
from mld.bench.retrieval_columns import RETRIEVAL_TITLES, is_retrieval, limit_column
from mld.bench.suite import Published, SuiteSpec
from mld.reporting.number_format import format_fixed, format_number
from mld.reporting.truth_metrics import TruthMetric

MAIN_COLUMNS = (
    *("joint_coherence", "conditional_coherence", *RETRIEVAL_TITLES),
    *("joint_frechet", "conditional_frechet"),
)
"""The metrics by which variants are compared."""
COST_COLUMNS = (
    *("samples", "draws", "candidates"),
    *("nfe", "seconds_per_sample", "training_seconds", "parameters"),
)
COLUMN_TITLES = {
    "joint_coherence": "joint coherence",
    "conditional_coherence": "conditional coherence",
    **RETRIEVAL_TITLES,
    "joint_frechet": "Frechet distance, joint",
    "conditional_frechet": "Frechet distance, conditional",
    "samples": "samples",
    "draws": "draws of a row",
    "candidates": "candidates",
    "nfe": "NFE",
    "seconds_per_sample": "seconds per sample",
    "training_seconds": "seconds of training",
    "parameters": "parameters",
}
CAPTION = (
    "Means over seeds ± standard deviation; for a single seed, the 95 % bootstrap interval over "
    "its samples. Bold: better than every other variant, with 95 % intervals of the differences "
    "that exclude 0. The row of reconstructions is the limit that the autoencoders set: the "
    "proportion of held-out rows whose reconstructions are classified correctly, their Frechet "
    "distance, and their metrics. A plugin's metric, such as psnr, compares samples that were "
    "given one other modality with the items of their rows, and is averaged over what was given; "
    "↑ higher, ↓ lower is better, → is the value to be near to. With several draws of a row it is "
    "that of the best estimate from them, and metrics such as crps are those of the draws "
    "themselves. Retrieval at k is the proportion of samples for which what they were given is "
    "among the k of 100 real items that match them best, by a judge that needs no classes; in "
    "joint samples, the items of the same sample. Frechet distances of different numbers of "
    "samples are not compared, because the distance decreases as the number grows, nor are metrics "
    "of different numbers of draws, nor retrieval among different numbers of candidates. "
    "Training time and parameters are those of mld's score network without the autoencoders, or of "
    "the whole baseline; a training that was interrupted has no time."
)
DIFFERENCES_CAPTION = (
    "Paired by seed, with 95 % intervals (Student's t over seeds; for a single seed, that of two "
    "independent runs). Bold: the interval excludes 0. Frechet distances are means over "
    "modalities; lower is better."
)


@dataclass(frozen=True)
class FormattedValue:
    """One cell of a table.

    Args:
        best: whether to emphasise it.
        note: spread or interval, shown smaller beside the text.
        tooltip: what the note means.
    """

    text: str
    best: bool = False
    note: str = ""
    tooltip: str = ""


NO_VALUE = FormattedValue("–")


@dataclass(frozen=True)
class Row:
    """One row of a table; `is_reference` marks a ceiling or published numbers."""

    name: str
    values: Sequence[FormattedValue]
    is_reference: bool = False


@dataclass(frozen=True)
class Table:
    """A table; columns and rows without any value are left out."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Group:
    """The results of all variants on one set of modalities, and the numbers published for it."""

    modalities: tuple[str, ...]
    results: Sequence[VariantResult]
    published: Sequence[Published]

    @property
    def name(self) -> str:
        """The set of modalities as shown in headings."""
        return " + ".join(self.modalities)

    @property
    def comparisons(self) -> Iterator[tuple[VariantResult, VariantResult]]:
        """Pairs of a result and the one that it is compared with.

        A variant of the first method is compared with the very first result; one of another method
        with the first method's most similar variant.
        """
        first = self.results[0]
        method = first.coordinates.method
        candidates = [result for result in self.results if result.coordinates.method == method]
        for result in self.results[1:]:
            if result.coordinates.method == method:
                yield result, first
            else:
                yield result, max(candidates, key=lambda other: _similarity(result, other))


def _similarity(result: VariantResult, other: VariantResult) -> tuple[bool, bool]:
    """Whether two variants agree in their missing rate, and in how they sample."""
    first, second = result.coordinates, other.coordinates
    same_sampling = (first.sampler, first.guidance) == (second.sampler, second.guidance)
    return first.missing == second.missing, same_sampling


def group_results(spec: SuiteSpec, results: Sequence[VariantResult]) -> list[Group]:
    """Results grouped by set of modalities.

    A published number without a set of modalities belongs to the first group.
    """
    groups: list[Group] = []
    for names, group in groupby(results, key=lambda result: result.coordinates.modalities):
        published = [
            item
            for item in spec.published
            if set(item.modalities or names) == set(names) and (item.modalities or not groups)
        ]
        groups.append(Group(names, list(group), published))
    return groups


def truth_metrics(results: Iterable[VariantResult]) -> list[TruthMetric]:
    """The metrics against the truth that any result has."""
    return list(dict.fromkeys(metric for result in results for metric in result.truth_metrics))


def main_columns(results: Sequence[VariantResult]) -> dict[str, str]:
    """The metrics by which results are compared: columns of leaderboard.csv, with their titles."""
    titles = {column: COLUMN_TITLES[column] for column in MAIN_COLUMNS}
    titles |= {metric.column: metric.full_title for metric in truth_metrics(results)}
    return {
        column: title
        for column, title in titles.items()
        if any(result.figure(column) for result in results)
    }


def main_table(group: Group) -> Table:
    """Coherence, retrieval, metrics against the truth, Frechet distances by modality, costs."""
    columns = {
        "joint_coherence": ("joint coherence", "joint_ceiling"),
        "conditional_coherence": ("conditional coherence", ""),
        **{column: (title, limit_column(column)) for column, title in RETRIEVAL_TITLES.items()},
    }
    for metric in truth_metrics(group.results):
        columns[metric.column] = (metric.full_title, metric.limit_column)
    for name in group.modalities:
        columns[f"joint>{name} frechet"] = (f"Frechet, {name}", f"{name} reconstruction_frechet")
    for name in group.modalities:
        title = f"Frechet, {name}, others given"
        columns[f"{name} conditional_frechet"] = (title, f"{name} reconstruction_frechet")
    columns |= {column: (COLUMN_TITLES[column], "") for column in COST_COLUMNS}
    return _table(group, group.name, columns)


def one_to_one_table(group: Group) -> Table:
    """The coherence of each modality given each other one."""
    columns = {
        f"{given}>{target} coherence": (f"{given} → {target}", f"{target} reconstruction_accuracy")
        for given, target in permutations(group.modalities, 2)
    }
    return _table(group, f"{group.name}: one to one", columns)


def one_to_one_retrieval_table(group: Group) -> Table:
    """The retrieval at 1 of each given modality by each other one."""
    columns = {
        f"{given}>{target} retrieval": (f"{given} → {target}", "")
        for given, target in permutations(group.modalities, 2)
    }
    return _table(group, f"{group.name}: one to one, retrieval at 1", columns)


def one_to_one_truth_table(group: Group) -> Table:
    """The metrics against the truth of each modality given each other one."""
    columns = {
        metric.direction_column(given): (
            f"{given} → {metric.full_title}",
            metric.limit_column,
        )
        for metric in truth_metrics(group.results)
        for given in group.modalities
    }
    return _table(group, f"{group.name}: one to one, against the truth", columns)


def difference_table(group: Group) -> Table:
    """Each variant minus the one it is compared with."""
    columns = main_columns(group.results)
    rows = []
    for result, other in group.comparisons if columns else ():
        cells = [format_difference(result.difference(other, column)) for column in columns]
        rows.append(Row(f"{result.variant} − {other.variant}", cells))
    return Table(f"{group.name}: differences", [*columns.values()], rows)


def overall_table(groups: Sequence[Group]) -> Table:
    """The same differences averaged over all sets of modalities; empty for a single set."""
    pairs_of_row: dict[str, list[tuple[VariantResult, VariantResult]]] = {}
    for result, other in (pair for group in groups for pair in group.comparisons):
        name = f"{result.variant} − {other.variant}"
        pairs_of_row.setdefault(name, []).append((result, other))
    columns = main_columns([result for group in groups for result in group.results])
    rows = [
        Row(name, [format_difference(mean_difference(pairs, column)) for column in columns])
        for name, pairs in pairs_of_row.items()
    ]
    title = f"Differences over all {len(groups)} sets"
    return Table(title, [*columns.values()], rows if len(groups) > 1 and columns else [])


def _table(group: Group, title: str, columns: Mapping[str, tuple[str, str]]) -> Table:
    """A table; `columns` has, by metric, its header and the metric of its ceiling ("" if none)."""
    results = group.results
    present = [column for column in columns if any(result.figure(column) for result in results)]
    best = {column: significant_best(results, column) for column in present}
    ceiling_columns = [columns[column][1] for column in present]
    rows, ceilings = [], []
    for result in results:
        cells = [format_figure(result.figure(name), name, result is best[name]) for name in present]
        rows.append(Row(result.variant, cells))
        ceilings.append([format_figure(result.figure(name), name) for name in ceiling_columns])
    if any(value is not NO_VALUE for value in ceilings[0]):
        all_equal = all(values == ceilings[0] for values in ceilings)
        name = "reconstructions" if all_equal else f"reconstructions, {results[0].variant}"
        rows.append(Row(name, ceilings[0], is_reference=True))
    for method in dict.fromkeys(item.method for item in group.published):
        items = {item.metric: item for item in group.published if item.method == method}
        values = [format_published(items.get(column)) for column in present]
        if any(value is not NO_VALUE for value in values):
            rows.append(Row(f"{method}, published", values, is_reference=True))
    return Table(title, [columns[column][0] for column in present], rows if present else [])


def significant_best(results: Sequence[VariantResult], column: str) -> VariantResult | None:
    """The result that is better than every other by a difference whose interval excludes 0.

    Results that are not comparable do not count. None if no result is, or the column is a cost, or
    of a value to be near to.
    """
    present = [(figure.value, other) for other in results if (figure := other.figure(column))]
    if len(present) < 2 or column in COST_COLUMNS:
        return None
    better = present[0][1].better(column)
    if better == "nearer":
        return None
    sign = -1 if better == "lower" else 1
    _, best = max(present, key=lambda pair: sign * pair[0])
    others = [other for _, other in present if other is not best]
    comparable = [other for other in others if best.is_comparable(other, column)]
    for other in comparable:
        difference = best.difference(other, column)
        if difference is None or difference.half_width is None:
            return None
        if sign * difference.value <= difference.half_width:
            return None
    return best if comparable else None


def format_figure(figure: Figure | None, column: str, best: bool = False) -> FormattedValue:
    """A figure with its standard deviation over seeds, or the interval of a single seed."""
    if figure is None:
        return NO_VALUE
    text = _format_number(figure.value, column)
    note = tooltip = ""
    if figure.low is not None and figure.high is not None:
        low, high = _format_number(figure.low, column), _format_number(figure.high, column)
        seeds = f"{figure.n} seeds" if figure.n > 1 else "one seed"
        note = f"{low}–{high}"
        tooltip = f"95 % interval {note}, {seeds}"
    if figure.std is not None:
        decimals = len(text.partition(".")[2])
        note = f"± {figure.std:,.{decimals}f}" if figure.std else ""
    return FormattedValue(text, best, note, tooltip if note else "")


def _format_number(value: float, column: str) -> str:
    """Proportions have three decimals, other numbers three significant digits."""
    if is_retrieval(column) or any(word in column for word in ("coherence", "ceiling", "accuracy")):
        return format_fixed(value, 3)
    return format_number(round(value) if abs(value) >= 1000 else value)


def format_published(published: Published | None) -> FormattedValue:
    """A published number with its source."""
    if published is None:
        return NO_VALUE
    return FormattedValue(format_number(published.value), note=published.source)


def format_difference(figure: Figure | None) -> FormattedValue:
    """A difference with its sign and interval; emphasised if the interval excludes 0."""
    if figure is None:
        return NO_VALUE
    text = format_fixed(figure.value, 3, signed=True)
    if figure.low is None or figure.high is None:
        return FormattedValue(text, note="one seed")
    low, high = (format_fixed(end, 3, signed=True) for end in (figure.low, figure.high))
    tooltip = f"95 % interval, paired over {figure.n} seed{'s' if figure.n > 1 else ''}"
    return FormattedValue(text, figure.low > 0 or figure.high < 0, f"{low} to {high}", tooltip)
