"""The tables of a leaderboard, from metrics that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mld.bench.charts import group_charts
from mld.bench.suite import Coordinates
from mld.bench.tables import (
    NO_VALUE,
    difference_table,
    main_table,
    one_to_one_truth_table,
    overall_table,
)
from mld.storage.run_dir import RunDir

ONE_SEED = "modalities: [[a, b]]\nmethods: {one: {}, two: {}}\n"


def values(table: Any, name: str) -> dict[str, Any]:
    """The values of a row by header."""
    (row,) = [row for row in table.rows if row.name == name]
    return dict(zip(table.headers, row.values, strict=True))


def test_main_and_difference_table(finish_suite: Callable[..., Any]) -> None:
    group = finish_suite().group
    one = values(main_table(group), "one")
    assert (one["joint coherence"].text, one["joint coherence"].note) == ("0.820", "± 0.020")
    # t(2) = 4.303, so the interval is 0.82 ± 4.303 * 0.02 / √3.
    assert "0.770–0.870, 3 seeds" in one["joint coherence"].tooltip
    assert one["conditional coherence"].text == "0.825"
    assert (one["Frechet, a"].text, one["Frechet, a"].note) == ("22", "± 2")
    assert one["Frechet, a, others given"].text == "19.8"
    assert (one["NFE"].text, one["NFE"].note) == ("60", "")
    assert values(main_table(group), "reconstructions")["Frechet, b"].text == "5"
    # Differences −0.30, −0.29, −0.31: a mean of −0.30 ± 4.303 * 0.01 / √3.
    difference = values(difference_table(group), "two − one")["joint coherence"]
    assert (difference.text, difference.note) == ("−0.300", "−0.325 to −0.275")
    assert difference.best is True
    assert one["joint coherence"].best
    assert not values(main_table(group), "two")["joint coherence"].best


def test_metrics_against_the_truth(finish_suite: Callable[..., Any]) -> None:
    axes = "modalities: all\nmethods: {one: {}, two: {}}\nseeds: [0, 1, 2]\n"
    group = finish_suite(axes).groups[0]
    title = "a: edit distance, bytes ↓"
    # The directions b>a and c>a are the third and the fifth of six: 0.18 + 0.03 on average.
    one, two = values(main_table(group), "one")[title], values(main_table(group), "two")[title]
    assert (one.text, one.note, one.best) == ("0.210", "± 0.020", True)
    assert (two.text, two.best) == ("0.510", False)
    assert values(main_table(group), "reconstructions")[title].text == "0.0200"
    directions = values(one_to_one_truth_table(group), "two")
    assert directions[f"b → {title}"].text == "0.500"
    assert directions[f"c → {title}"].text == "0.520"
    difference = values(difference_table(group), "two − one")[title]
    assert (difference.text, difference.note) == ("+0.300", "+0.275 to +0.325")
    assert list(values(difference_table(group), "two − one"))[-3:] == [
        f"{name}: edit distance, bytes ↓" for name in "abc"
    ]


def test_metrics_of_draws_have_no_best_where_a_value_is_to_be_near_to(
    finish_suite: Callable[..., Any],
) -> None:
    suite = finish_suite()
    for trial in suite.trials:
        change_metric(suite.suite_dir.run_dir(trial), 19, better="nearer", best=0.8)
    table = main_table(suite.group)
    one, two = (values(table, name)["a: edit distance, bytes → 0.800"] for name in ("one", "two"))
    assert (one.text, two.text) == ("0.190", "0.490")
    assert not one.best
    assert not two.best
    assert values(table, "one")["draws of a row"].text == "19"


def test_metrics_of_different_numbers_of_draws_are_not_compared(
    finish_suite: Callable[..., Any],
) -> None:
    suite = finish_suite()
    for trial in suite.trials:
        draws = 19 if trial.coordinates.method == "one" else 1
        change_metric(suite.suite_dir.run_dir(trial), draws)
    title = "a: edit distance, bytes ↓"
    assert not values(main_table(suite.group), "one")[title].best
    differences = values(difference_table(suite.group), "two − one")
    assert differences[title] is NO_VALUE
    assert differences["joint coherence"] is not NO_VALUE


def change_metric(run_dir: RunDir, draws: int, **fields: Any) -> None:
    """Change the scores of each modality's metric, and the number of draws."""
    scores = run_dir.read_json(run_dir.metrics) | {"draws": draws}
    for score in scores["conditional_metrics"]:
        score |= fields
    run_dir.write_json(run_dir.metrics, scores)


def test_metrics_without_an_interval_have_none(finish_suite: Callable[..., Any]) -> None:
    suite = finish_suite(ONE_SEED)
    run_dir = suite.suite_dir.run_dir(suite.trials[0])
    scores = run_dir.read_json(run_dir.metrics)
    scores["conditional_metrics"][0] |= {"low": None, "high": None}  # b given a
    run_dir.write_json(run_dir.metrics, scores)
    table = main_table(suite.group)
    a, b = (values(table, "one")[f"{name}: edit distance, bytes ↓"] for name in "ab")
    assert (a.text, a.note, b.text, b.note) == ("0.210", "0.170–0.250", "0.200", "")


def test_runs_that_were_evaluated_without_truth(finish_suite: Callable[..., Any]) -> None:
    suite = finish_suite(ONE_SEED)
    for trial in suite.trials:
        run_dir = suite.suite_dir.run_dir(trial)
        scores = run_dir.read_json(run_dir.metrics)
        del scores["conditional_metrics"]
        run_dir.write_json(run_dir.metrics, scores)
    assert one_to_one_truth_table(suite.group).rows == []
    assert not any("edit" in header for header in main_table(suite.group).headers)
    assert len(difference_table(suite.group).headers) == 4


def test_single_seed_has_the_interval_of_its_run(finish_suite: Callable[..., Any]) -> None:
    group = finish_suite(ONE_SEED).group
    one = values(main_table(group), "one")["joint coherence"]
    assert (one.text, one.note, one.best) == ("0.800", "0.760–0.840", True)
    differences = values(difference_table(group), "two − one")
    # Two independent runs: ±√(0.04² + 0.04²).
    assert differences["joint coherence"].note == "−0.357 to −0.243"
    assert differences["Frechet distance, joint"].note == "one seed"
    assert not values(main_table(group), "one")["Frechet, a"].best


def test_single_common_seed_has_its_runs_interval(finish_suite: Callable[..., Any]) -> None:
    suite = finish_suite(changed={("two", 0): None, ("two", 2): None})
    suite.write_scores(suite.trials[1], 0.82, 22.0, 60.0, half_width=0.03)
    difference = values(difference_table(suite.group), "two − one")["joint coherence"]
    # The runs of seed 1 alone: ±√(0.03² + 0.04²).
    assert difference.note == "−0.340 to −0.240"


def test_insignificant_best_is_not_bold(finish_suite: Callable[..., Any]) -> None:
    close = {
        ("two", 0): (0.85, 20.0, 1.0),
        ("two", 1): (0.81, 21.0, 1.0),
        ("two", 2): (0.80, 25.0, 1.0),
    }
    group = finish_suite(changed=close).group
    assert not any(value.best for row in main_table(group).rows for value in row.values)


def test_distances_of_fewer_samples_are_not_compared(finish_suite: Callable[..., Any]) -> None:
    def metrics_of(coordinates: Coordinates) -> tuple[str, int]:
        method = "one" if coordinates.method == "few" else coordinates.method
        return method, coordinates.seed

    axes = "modalities: [[a, b]]\nmethods: {few: {}, one: {}, two: {}}\nseeds: [0, 1, 2]\n"
    suite = finish_suite(axes, key=metrics_of)
    for trial in suite.trials:
        if trial.coordinates.method == "few":
            frechet = 5.0 + trial.coordinates.seed
            suite.write_scores(trial, 0.7, frechet, 60.0, samples=300)
    difference = values(difference_table(suite.group), "one − few")
    assert difference["joint coherence"].best
    assert difference["Frechet distance, joint"] is NO_VALUE
    methods = ("few", "one", "two")
    assert not any(values(main_table(suite.group), name)["Frechet, a"].best for name in methods)
    assert values(main_table(suite.group), "few")["samples"].text == "300"
    assert values(main_table(suite.group), "few")["Frechet, a"].text == "6"


def test_sets_are_averaged_within_a_seed(finish_suite: Callable[..., Any]) -> None:
    axes = "modalities: all\nmethods: {one: {}, two: {}}\nseeds: [0, 1, 2]\n"
    groups = finish_suite(axes).groups
    assert [group.name for group in groups] == ["a + b + c", "a + b", "a + c", "b + c"]
    difference = values(overall_table(groups), "two − one")["joint coherence"]
    # Three seeds, however many sets: as of one set alone.
    assert (difference.text, difference.note) == ("−0.300", "−0.325 to −0.275")
    assert "over 3 seeds" in difference.tooltip
    assert overall_table(groups[:1]).rows == []


def test_several_sets_of_a_single_seed(finish_suite: Callable[..., Any]) -> None:
    groups = finish_suite("modalities: all\nmethods: {one: {}, two: {}}\n").groups
    differences = values(overall_table(groups), "two − one")
    assert differences["joint coherence"].note == "−0.357 to −0.243"
    assert differences["Frechet distance, joint"].note == "one seed"


def test_seed_that_one_set_lacks_is_left_out(finish_suite: Callable[..., Any]) -> None:
    axes = "modalities: [[a, b], [a, c]]\nmethods: {one: {}, two: {}}\nseeds: [0, 1, 2]\n"
    suite = finish_suite(axes)
    suite.trials[:] = [
        trial
        for trial in suite.trials
        if (trial.coordinates.modalities, trial.coordinates.seed) != (("a", "c"), 2)
    ]
    difference = values(overall_table(suite.groups), "two − one")["joint coherence"]
    assert "over 2 seeds" in difference.tooltip


def test_other_methods_are_compared_with_the_most_similar(finish_suite: Callable[..., Any]) -> None:
    axes = "methods: {one: {}, two: {generate.guidance: 0}}\nmissing: [0, 0.5]\nguidance: [0, 1]\n"
    suite = finish_suite(axes)
    assert [(result.variant, other.variant) for result, other in suite.group.comparisons] == [
        ("one · missing 0 · w 1", "one · missing 0 · w 0"),
        ("one · missing 0.5 · w 0", "one · missing 0 · w 0"),
        ("one · missing 0.5 · w 1", "one · missing 0 · w 0"),
        ("two · missing 0", "one · missing 0 · w 0"),
        ("two · missing 0.5", "one · missing 0.5 · w 0"),
    ]
    titles = [chart.title for chart in group_charts(suite.spec, suite.group)]
    assert "Cost, missing 0.5" in titles
    assert "Missing cells, guidance 1" in titles
