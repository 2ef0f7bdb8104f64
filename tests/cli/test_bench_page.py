"""What a leaderboard shows of figures that are known."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mld.bench.aggregate import Line, lines_of
from mld.bench.cells import Bench, Cell
from mld.bench.figures import charts_of
from mld.bench.grid import grid
from mld.bench.leaderboard import write_leaderboard
from mld.bench.suite import SuiteSpec, load_suite
from mld.bench.tables import NOTHING, difference_table, groups_of, main_table, overall_table
from mld.reporting.charts import Point, Series, scatter_chart
from mld.storage.stages import STAGE_NAMES

BASE = """
name: base
data: {kind: examples}
modalities:
  a: {kind: text, latent_dim: 4}
  b: {kind: text, latent_dim: 4}
  c: {kind: text, latent_dim: 4}
"""
SUITE = "name: small\nspec: base.yaml\n"

Suite = tuple[Bench, SuiteSpec, list[Cell]]


def share(value: float, half: float = 0.04) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 500}


def scores(
    names: tuple[str, ...],
    joint: float,
    frechet: float,
    nfe: float,
    half: float = 0.04,
    samples: int = 500,
) -> dict[str, Any]:
    wanted = [(own, other) for own in names for other in names if own != other]
    return {
        "joint_coherence": share(joint, half),
        "joint_ceiling": share(0.95),
        "conditional_coherence": [
            {"given": [own], "target": other, **share(joint + 0.01 * place)}
            for place, (own, other) in enumerate(wanted)
        ],
        "modalities": {
            name: {
                "classifier_accuracy": share(0.99),
                "reconstruction_accuracy": share(0.97),
                "reconstruction_frechet": 5.0,
            }
            for name in names
        },
        "frechet": [
            *({"given": [], "target": name, "value": frechet, "n": samples} for name in names),
            *({"given": [a], "target": b, "value": 0.9 * frechet, "n": samples} for a, b in wanted),
        ],
        "nfe": {"joint": nfe},
        "seconds_per_sample": {"joint": 0.01},
    }


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Suite]:
    """A finished suite whose cells have these (joint coherence, Frechet distance, NFE)."""

    def finish(more: str, figures: Mapping[Any, tuple[float, float, float]], key: Any) -> Suite:
        (tmp_path / "base.yaml").write_text(BASE)
        (tmp_path / "suite.yaml").write_text(SUITE + more)
        told = load_suite(tmp_path / "suite.yaml")
        bench = Bench(tmp_path / "out")
        cells = []
        for place, (at, _) in enumerate(grid(told)):
            known = key(at) in figures
            cell = Cell(at, "", f"{place:016}", "" if known else "base.yaml:3: <b>no</b> luck")
            cells.append(cell)
            if known:
                run_dir = bench.run_dir(cell)
                run_dir.write_json(run_dir.metrics, scores(at.modalities, *figures[key(at)]))
                run_dir.write_json(run_dir.provenance, {"mld": "0.1.0", "device": "cpu"})
                for stage in STAGE_NAMES:
                    run_dir.mark_complete(stage, {}, [], 1.0, {"parameters": {"diffuse": 100}})
        bench.freeze(cells)
        return bench, told.told, cells

    return finish


def by_method_and_seed(at: Any) -> tuple[str, int]:
    return at.method, at.seed


def key_of_known(at: Any) -> tuple[str, int]:
    """The figures of `one` for a method that has none."""
    return ("one", at.seed) if at.method == "none" else (at.method, at.seed)


METHODS = "modalities: [[a, b]]\nmethods: {one: {}, two: {}}\nseeds: [0, 1, 2]\n"
FIGURES = {
    ("one", 0): (0.80, 20.0, 60.0),
    ("one", 1): (0.82, 22.0, 60.0),
    ("one", 2): (0.84, 24.0, 60.0),
    ("two", 0): (0.50, 40.0, 1.0),
    ("two", 1): (0.53, 44.0, 1.0),
    ("two", 2): (0.53, 42.0, 1.0),
}


def entries(table: Any, name: str) -> dict[str, Any]:
    (row,) = [row for row in table.rows if row.name == name]
    return dict(zip(table.heads, row.entries, strict=True))


def test_tables_hold_what_a_hand_computes(suite: Callable[..., Suite]) -> None:
    bench, told, cells = suite(METHODS, FIGURES, by_method_and_seed)
    (group,) = groups_of(told, lines_of(bench, cells))
    one = entries(main_table(group), "one")
    assert (one["joint coherence"].told, one["joint coherence"].note) == ("0.820", "± 0.020")
    # t(2) = 4.303, so the interval is 0.82 ± 4.303 * 0.02 / √3.
    assert "0.770–0.870, 3 seeds" in one["joint coherence"].hint
    assert one["conditional coherence"].told == "0.825"
    assert (one["Frechet, a"].told, one["Frechet, a"].note) == ("22", "± 2")
    assert one["Frechet, a, others given"].told == "19.8"
    assert (one["NFE"].told, one["NFE"].note) == ("60", "")
    assert entries(main_table(group), "reconstructions")["Frechet, b"].told == "5"
    # Differences −0.30, −0.29, −0.31: a mean of −0.30 ± 4.303 * 0.01 / √3.
    less = entries(difference_table(group), "two − one")["joint coherence"]
    assert (less.told, less.note, less.best) == ("−0.300", "−0.325 to −0.275", True)
    assert one["joint coherence"].best
    assert not entries(main_table(group), "two")["joint coherence"].best


def test_one_seed_has_the_intervals_of_its_run(suite: Callable[..., Suite]) -> None:
    text = "modalities: [[a, b]]\nmethods: {one: {}, two: {}}\n"
    bench, told, cells = suite(text, FIGURES, by_method_and_seed)
    (group,) = groups_of(told, lines_of(bench, cells))
    one = entries(main_table(group), "one")["joint coherence"]
    assert (one.told, one.note, one.best) == ("0.800", "0.760–0.840", True)
    less = entries(difference_table(group), "two − one")
    # Two independent runs: ±√(0.04² + 0.04²).
    assert less["joint coherence"].note == "−0.357 to −0.243"
    assert less["Frechet distance, joint"].note == "one seed"
    assert not entries(main_table(group), "one")["Frechet, a"].best


def test_a_seed_in_common_has_the_intervals_of_its_own_runs(suite: Callable[..., Suite]) -> None:
    known = {key: own for key, own in FIGURES.items() if key not in (("two", 0), ("two", 2))}
    bench, told, cells = suite(METHODS, known, by_method_and_seed)
    run_dir = bench.run_dir(cells[1])
    run_dir.write_json(run_dir.metrics, scores(("a", "b"), 0.82, 22.0, 60.0, half=0.03))
    (group,) = groups_of(told, lines_of(bench, cells))
    less = entries(difference_table(group), "two − one")["joint coherence"]
    # The runs of seed 1 alone: ±√(0.03² + 0.04²).
    assert less.note == "−0.340 to −0.240"


def test_what_lies_within_the_interval_is_not_bold(suite: Callable[..., Suite]) -> None:
    close = {**FIGURES, ("two", 0): (0.85, 20.0, 1.0), ("two", 1): (0.81, 21.0, 1.0)}
    close["two", 2] = (0.80, 25.0, 1.0)
    bench, told, cells = suite(METHODS, close, by_method_and_seed)
    (group,) = groups_of(told, lines_of(bench, cells))
    assert not any(entry.best for row in main_table(group).rows for entry in row.entries)


def test_distances_of_fewer_samples_are_not_compared(suite: Callable[..., Suite]) -> None:
    bench, told, cells = suite(METHODS.replace("{one", "{none: {}, one"), FIGURES, key_of_known)
    for cell in cells:
        if cell.at.method == "none":
            run_dir = bench.run_dir(cell)
            few = scores(("a", "b"), 0.7, 5.0 + cell.at.seed, 60.0, samples=300)
            run_dir.write_json(run_dir.metrics, few)
    (group,) = groups_of(told, lines_of(bench, cells))
    less = entries(difference_table(group), "one − none")
    assert less["joint coherence"].best
    assert less["Frechet distance, joint"] is NOTHING
    bold = [row.name for row in main_table(group).rows if row.entries[2].best]
    assert bold == []
    assert entries(main_table(group), "none")["samples"].told == "300"
    assert entries(main_table(group), "none")["Frechet, a"].told == "6"


def test_several_sets_are_averaged_within_a_seed(suite: Callable[..., Suite]) -> None:
    text = METHODS.replace("[[a, b]]", "all")
    bench, told, cells = suite(text, FIGURES, by_method_and_seed)
    groups = groups_of(told, lines_of(bench, cells))
    assert [group.name for group in groups] == ["a + b + c", "a + b", "a + c", "b + c"]
    less = entries(overall_table(groups), "two − one")["joint coherence"]
    # Three seeds, however many sets: as of one set alone.
    assert (less.told, less.note) == ("−0.300", "−0.325 to −0.275")
    assert "over 3 seeds" in less.hint
    assert overall_table(groups[:1]).rows == []


def test_several_sets_of_one_seed_have_the_intervals_of_their_runs(
    suite: Callable[..., Suite],
) -> None:
    text = "modalities: all\nmethods: {one: {}, two: {}}\n"
    bench, told, cells = suite(text, FIGURES, by_method_and_seed)
    groups = groups_of(told, lines_of(bench, cells))
    less = entries(overall_table(groups), "two − one")
    assert less["joint coherence"].note == "−0.357 to −0.243"
    assert less["Frechet distance, joint"].note == "one seed"


def test_a_set_without_a_seed_takes_it_from_the_mean(suite: Callable[..., Suite]) -> None:
    text = METHODS.replace("[[a, b]]", "[[a, b], [a, c]]")
    bench, told, cells = suite(text, FIGURES, by_method_and_seed)
    known = [cell for cell in cells if (cell.at.modalities, cell.at.seed) != (("a", "c"), 2)]
    less = entries(overall_table(groups_of(told, lines_of(bench, known))), "two − one")
    assert "over 2 seeds" in less["joint coherence"].hint


def test_other_methods_are_compared_with_the_most_alike_of_the_first(
    suite: Callable[..., Suite],
) -> None:
    text = "methods: {one: {}, two: {generate.guidance: 0}}\nmissing: [0, 0.5]\nguidance: [0, 1]\n"
    every = {("one", 0): (0.8, 20.0, 60.0), ("two", 0): (0.5, 40.0, 1.0)}
    bench, told, cells = suite(text, every, by_method_and_seed)
    (group,) = groups_of(told, lines_of(bench, cells))
    assert [(line.variant, other.variant) for line, other in group.others] == [
        ("one · missing 0 · w 1", "one · missing 0 · w 0"),
        ("one · missing 0.5 · w 0", "one · missing 0 · w 0"),
        ("one · missing 0.5 · w 1", "one · missing 0 · w 0"),
        ("two · missing 0", "one · missing 0 · w 0"),
        ("two · missing 0.5", "one · missing 0.5 · w 0"),
    ]
    titles = [chart.title for chart in charts_of(told, group)]
    assert "Cost, missing 0.5" in titles
    assert "Missing cells, guidance 1" in titles


def test_a_method_with_its_own_rate_is_in_the_charts_of_all_rates(
    suite: Callable[..., Suite],
) -> None:
    text = "methods: {one: {}, two: {data.missing.rate: 0.3}}\nmissing: [0, 0.5]\n"
    every = {("one", 0): (0.8, 20.0, 60.0), ("two", 0): (0.5, 40.0, 1.0)}
    bench, told, cells = suite(f"{text}guidance: [0, 1]\n", every, by_method_and_seed)
    (group,) = groups_of(told, lines_of(bench, cells))
    charts = {chart.title: chart.drawing for chart in charts_of(told, group)}
    assert charts["Cost, missing 0.5"].count("<title>two") == 2
    assert "<title>two" not in charts["Missing cells, guidance 1"]


def test_solvers_are_strands_and_each_strength_has_its_chart(suite: Callable[..., Suite]) -> None:
    text = (
        "modalities: [[a, b]]\nguidance: [0, 1]\nsamplers: [{sampler: ddim, steps: 5}, "
        "{sampler: ddim, steps: 10}, {sampler: heun, steps: 5}]\n"
    )
    cost = {"ddim 5": (0.6, 30.0, 5.0), "ddim 10": (0.7, 25.0, 10.0), "heun 5": (0.65, 28.0, 10.0)}
    bench, told, cells = suite(text, cost, lambda at: at.sampler)
    (group,) = groups_of(told, lines_of(bench, cells))
    charts = {chart.title: chart.drawing for chart in charts_of(told, group)}
    assert {title for title in charts if "Cost" in title} == {
        "Cost, guidance 0",
        "Cost, guidance 1",
    }
    assert charts["Cost, guidance 0"].count('<polyline class="trail s0"') == 1
    assert charts["Cost, guidance 0"].count("<title>") == 3


def test_points_stand_where_their_values_are() -> None:
    chart = scatter_chart(
        [Series(0, [Point(1, 0.5, "x"), Point(10, 0.6, "y")]), Series(1, [Point(100, 0.7, "<z>")])],
        "NFE",
        "coherence",
    )
    places = [
        tuple(map(float, own)) for own in re.findall(r"translate\(([\d.]+) ([\d.]+)\)", chart)
    ]
    (x1, y1), (x2, y2), (x3, y3) = (map(float, own) for own in places)
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)  # a logarithmic axis
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert "&lt;z&gt;" in chart
    assert scatter_chart([Series(0, [Point(1, 1, "x")])], "NFE", "coherence") == ""


def test_a_share_stands_on_an_even_axis_however_wide() -> None:
    spots = [Point(place, share, "") for place, share in enumerate((0.05, 0.5, 0.95))]
    chart = scatter_chart([Series(0, spots)], "NFE", "coherence")
    low, middle, high = (float(own) for own in re.findall(r"translate\([\d.]+ ([\d.]+)\)", chart))
    assert low - middle == pytest.approx(middle - high, abs=0.2)


class Page(HTMLParser):
    """A page's tags; one that is closed out of turn is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_tells_what_failed(suite: Callable[..., Suite]) -> None:
    text = METHODS.replace("two: {}", "two: {}, three: {}").replace("[[a, b]]", "all")
    text += "published: [{method: MVAE, metric: joint_coherence, value: 0.38, source: recalled}]\n"
    bench, told, cells = suite(text, FIGURES, by_method_and_seed)
    write_leaderboard(bench, told, cells)
    page = (bench.path / "leaderboard.html").read_text()
    read = Page(page)
    sources = [own[name] for _, own in read.tags for name in ("src", "href") if name in own]
    assert sources
    assert all(source.startswith("#") for source in sources)
    targets = [own["id"] for _, own in read.tags if "id" in own]
    assert len(set(targets)) == len(targets)
    assert {source.removeprefix("#") for source in sources} <= set(targets)
    assert not re.search(r"url\(|@import|srcset|https?://", page)
    assert "a+b+c, three, seed 0 and 11 more" in page
    assert "&lt;b&gt;no&lt;/b&gt; luck" in page
    assert page.count('<table class="matrix">') == 2
    assert page.count("<details id=") == 4
    assert page.count("MVAE") == page.partition('id="set-2"')[0].count("MVAE") + 2
    told_again = (bench.path / "leaderboard.md").read_text()
    assert "24 of 36 cells are done, 12 failed." in told_again


def test_a_suite_without_a_finished_cell_has_a_page_too(suite: Callable[..., Suite]) -> None:
    bench, told, cells = suite(METHODS, {}, by_method_and_seed)
    write_leaderboard(bench, told, cells)
    assert "0 of 6 cells are done, 6 failed." in (bench.path / "leaderboard.html").read_text()
    assert json.loads(bench.cells.read_text())[0]["fault"].startswith("base.yaml:3")


def test_a_line_knows_only_what_its_seeds_know(suite: Callable[..., Suite]) -> None:
    bench, _, cells = suite(METHODS, FIGURES, by_method_and_seed)
    line: Line = lines_of(bench, cells)[0]
    assert line.figure("no such column") is None
    assert line.less(line, "joint_coherence").value == 0
