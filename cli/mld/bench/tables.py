"""The tables of a leaderboard: variants beside each other, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from mld.bench.aggregate import Figure, Line, mean_less
from mld.bench.suite import Published, SuiteSpec
from mld.reporting.number_format import format_fixed, format_number

MAIN = ("joint_coherence", "conditional_coherence", "joint_frechet", "conditional_frechet")
"""What variants are compared by in a few words."""
COSTS = ("samples", "nfe", "seconds_per_sample", "training_seconds", "parameters")
TITLES = {
    "joint_coherence": "joint coherence",
    "conditional_coherence": "conditional coherence",
    "joint_frechet": "Frechet distance, joint",
    "conditional_frechet": "Frechet distance, conditional",
    "samples": "samples",
    "nfe": "NFE",
    "seconds_per_sample": "seconds a sample",
    "training_seconds": "seconds of training",
    "parameters": "parameters",
}
READING = (
    "Means over seeds ± standard deviation; of a single seed, the 95 % bootstrap interval over its "
    "samples. Bold: the difference to every other variant has a 95 % interval that leaves out 0. "
    "The row of reconstructions is what the autoencoders alone make possible: the share of "
    "held-out rows whose reconstructions are classified right, and their Frechet distance. "
    "Frechet distances of different numbers of samples are not compared: the more samples, the "
    "lower they come out. "
    "Training and parameters are of mld's score network, its autoencoders apart, or of the whole "
    "rival; a training that was interrupted has no time."
)
COMPARING = (
    "Paired by seed, with 95 % intervals (Student's t over seeds; of a single seed, of two "
    "independent runs). Bold leaves out 0. Frechet distances are means over modalities, and good "
    "where they are lower."
)


@dataclass(frozen=True)
class Entry:
    """One figure of a table: as read, whether it is the best beyond doubt, and lesser notes."""

    told: str
    best: bool = False
    note: str = ""
    hint: str = ""


NOTHING = Entry("–")


@dataclass(frozen=True)
class Row:
    """One row; `apart` where it is no variant of the suite: a ceiling, or a published number."""

    name: str
    entries: Sequence[Entry]
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """Figures by variant and column; rows without any are left out."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Group:
    """The variants of one set of modalities, and what was published about it."""

    modalities: tuple[str, ...]
    lines: Sequence[Line]
    published: Sequence[Published]

    @property
    def name(self) -> str:
        """How headings call it."""
        return " + ".join(self.modalities)

    @property
    def others(self) -> Iterator[tuple[Line, Line]]:
        """Every line that has another to be compared with, and that line.

        A variant of the first method is compared with the first line of all; another method's with
        the first method's line that is most like it.
        """
        first = self.lines[0]
        candidates = [line for line in self.lines if line.at.method == first.at.method]
        for line in self.lines[1:]:
            if line.at.method == first.at.method:
                yield line, first
            else:
                yield line, max(candidates, key=lambda other: _likeness(line, other))


def _likeness(line: Line, other: Line) -> tuple[bool, ...]:
    one, two = line.at, other.at
    same_sampling = (one.sampler, one.guidance) == (two.sampler, two.guidance)
    return one.missing == two.missing, same_sampling


def groups_of(told: SuiteSpec, lines: Sequence[Line]) -> list[Group]:
    """The finished lines by set of modalities."""
    found: list[Group] = []
    for names, group in groupby(lines, key=lambda line: line.modalities):
        published = [
            item
            for item in told.published
            if set(item.modalities or names) == set(names) and (item.modalities or not found)
        ]
        found.append(Group(names, list(group), published))
    return found


def main_table(group: Group) -> Table:
    """Coherence, Frechet distances by modality, of how many samples these are, and costs."""
    columns = {
        "joint_coherence": ("joint coherence", "joint_ceiling"),
        "conditional_coherence": ("conditional coherence", ""),
    }
    reconstructed = {name: f"{name} reconstruction_frechet" for name in group.modalities}
    for name, ceiling in reconstructed.items():
        columns[f"joint>{name} frechet"] = (f"Frechet, {name}", ceiling)
    for name, ceiling in reconstructed.items():
        columns[f"{name} conditional_frechet"] = (f"Frechet, {name}, others given", ceiling)
    columns |= {column: (TITLES[column], "") for column in COSTS}
    return _table(group, group.name, columns)


def one_to_one_table(group: Group) -> Table:
    """The coherence of each modality given each other one."""
    names = group.modalities
    columns = {
        f"{given}>{target} coherence": (
            f"{given} → {target}",
            f"{target} reconstruction_accuracy",
        )
        for given in names
        for target in names
        if given != target
    }
    return _table(group, f"{group.name}: one to one", columns)


def difference_table(group: Group) -> Table:
    """Each variant less the one it is compared with, paired by seed."""
    columns = [column for column in MAIN if any(line.figure(column) for line in group.lines)]
    rows = [
        Row(
            f"{line.variant} − {other.variant}",
            [difference(line.less(other, column), "seed") for column in columns],
        )
        for line, other in group.others
        if columns
    ]
    return Table(f"{group.name}: differences", [TITLES[column] for column in columns], rows)


def overall_table(groups: Sequence[Group]) -> Table:
    """The same differences, of each seed the mean over all sets of modalities."""
    found: dict[str, list[tuple[Line, Line]]] = {}
    for line, other in (pair for group in groups for pair in group.others):
        found.setdefault(f"{line.variant} − {other.variant}", []).append((line, other))
    rows = [
        Row(name, [difference(mean_less(pairs, column), "seed") for column in MAIN])
        for name, pairs in found.items()
    ]
    title = f"Differences over all {len(groups)} sets"
    return Table(title, [TITLES[column] for column in MAIN], rows if len(groups) > 1 else [])


def _table(group: Group, title: str, columns: dict[str, tuple[str, str]]) -> Table:
    """A table of columns, each with its title and the column of its ceiling."""
    lines = group.lines
    known = [column for column in columns if any(line.figure(column) for line in lines)]
    best = {column: leader(lines, column) for column in known}
    rows = [
        Row(line.variant, [_entry(line, column, best[column]) for column in known])
        for line in lines
    ]
    ceilings = [[_entry(line, columns[column][1], None) for column in known] for line in lines]
    if any(entry is not NOTHING for entry in ceilings[0]):
        alike = all(own == ceilings[0] for own in ceilings)
        whose = "" if alike else f", {lines[0].variant}"
        rows.append(Row(f"reconstructions{whose}", ceilings[0], apart=True))
    for method in dict.fromkeys(item.method for item in group.published):
        own = {item.metric: item for item in group.published if item.method == method}
        entries = [
            Entry(format_number(own[column].value), note=own[column].source)
            if column in own
            else NOTHING
            for column in known
        ]
        if any(entry is not NOTHING for entry in entries):
            rows.append(Row(f"{method}, published", entries, apart=True))
    return Table(title, [columns[column][0] for column in known], rows if known else [])


def leader(lines: Sequence[Line], column: str) -> Line | None:
    """The line whose difference to every other has an interval on the good side of 0, if any."""
    found = [line for line in lines if line.figure(column)]
    if len(found) < 2 or column in COSTS:
        return None
    sign = -1 if column.endswith("frechet") else 1

    def good(line: Line) -> float:
        figure = line.figure(column)
        return sign * figure.value if figure else 0.0

    best = max(found, key=good)
    leads = [
        best.less(line, column)
        for line in found
        if line is not best and best.comparable(line, column)
    ]
    clear = [
        lead is not None and lead.half is not None and sign * lead.value > lead.half
        for lead in leads
    ]
    return best if clear and all(clear) else None


def _entry(line: Line, column: str, best: Line | None) -> Entry:
    figure = line.figure(column)
    return NOTHING if figure is None else read(figure, column, line is best)


def read(figure: Figure, column: str, best: bool = False) -> Entry:
    """A figure of a column in words: the spread beside it, or a single seed's interval."""
    note = hint = ""
    if figure.low is not None and figure.high is not None:
        seeds = f"{figure.n} seeds" if figure.n > 1 else "one seed"
        interval = f"{value(figure.low, column)}–{value(figure.high, column)}"
        hint = f"95 % interval {interval}, {seeds}"
        note = interval
    told = value(figure.value, column)
    if figure.spread is not None:
        digits = len(told.partition(".")[2])
        note = f"± {figure.spread:,.{digits}f}" if figure.spread else ""
    return Entry(told, best, note, hint if note else "")


def value(told: float, column: str) -> str:
    """A number as its column is read: shares with three digits behind the point."""
    if any(word in column for word in ("coherence", "ceiling", "accuracy")):
        return format_fixed(told, 3)
    return format_number(round(told) if abs(told) >= 1000 else told)


def difference(figure: Figure | None, of: str) -> Entry:
    """A difference with its sign; marked where its interval leaves out 0."""
    if figure is None:
        return NOTHING
    told = format_fixed(figure.value, 3, signed=True)
    if figure.low is None or figure.high is None:
        return Entry(told, note=f"one {of}")
    low, high = (format_fixed(end, 3, signed=True) for end in (figure.low, figure.high))
    note = f"{low} to {high}"
    hint = f"95 % interval, paired over {figure.n} {of}{'s' if figure.n > 1 else ''}"
    return Entry(told, figure.low > 0 or figure.high < 0, note, hint)
