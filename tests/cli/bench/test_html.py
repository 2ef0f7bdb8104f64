"""The leaderboard's page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mld.bench.leaderboard import write_leaderboard
from mld.storage.run_dir import RunDir

COMMAND = "mld bench suite.yaml"
VOID = ("meta", "br")


def test_page_is_self_contained_and_lists_failures(
    finish_suite: Callable[..., Any], parse_page: Callable[..., Any]
) -> None:
    axes = "modalities: all\nmethods: {one: {}, two: {}, three: {}}\nseeds: [0, 1, 2]\n"
    axes += "published: [{method: MVAE, metric: joint_coherence, value: 0.38, source: recalled}]\n"
    suite = finish_suite(axes)
    write_leaderboard(suite.suite_dir, suite.spec, suite.trials, COMMAND)
    text = (suite.suite_dir.path / "leaderboard.html").read_text()
    page = parse_page(text, VOID)
    links = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href")
        if name in attributes
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    targets = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(targets)) == len(targets)
    assert {link.removeprefix("#") for link in links} <= set(targets)
    assert not re.search(r"url\(|@import|srcset|https?://", text)
    assert "a+b+c, three, seed 0 and 11 more" in text
    assert "&lt;b&gt;no&lt;/b&gt; luck" in text
    assert text.count('<table class="matrix">') == 2
    assert text.count("<details id=") == 4
    assert text.count("MVAE") == text.partition('id="set-2"')[0].count("MVAE") + 2
    markdown = (suite.suite_dir.path / "leaderboard.md").read_text()
    assert "24 of 36 trials are done, 12 failed." in markdown


def test_page_of_a_suite_without_finished_trials(finish_suite: Callable[..., Any]) -> None:
    suite = finish_suite(metrics={})
    write_leaderboard(suite.suite_dir, suite.spec, suite.trials, COMMAND)
    text = (suite.suite_dir.path / "leaderboard.html").read_text()
    assert "0 of 6 trials are done, 6 failed." in text
    index = json.loads(suite.suite_dir.index.read_text())
    assert index[0]["error"].startswith("base.yaml:3")


def drop_coherence(run_dir: RunDir) -> None:
    """As of a run whose rows have no classes."""
    scores = run_dir.read_json(run_dir.metrics)
    scores |= {"joint_coherence": None, "joint_ceiling": None, "conditional_coherence": []}
    run_dir.write_json(run_dir.metrics, scores)


def test_runs_without_classes_have_headlines_and_panels_against_the_truth(
    finish_suite: Callable[..., Any],
) -> None:
    suite = finish_suite("modalities: [[a, b]]\nmethods: {one: {}, two: {}}\n")
    for trial in suite.trials:
        run_dir = suite.suite_dir.run_dir(trial)
        drop_coherence(run_dir)
    write_leaderboard(suite.suite_dir, suite.spec, suite.trials, COMMAND)
    text = (suite.suite_dir.path / "leaderboard.html").read_text()
    # The lower value is the better one.
    headline = '<dt>Best a: edit distance, bytes ↓</dt><dd class="figure">0.210</dd>'
    assert headline + '<dd class="note">one on a + b' in text
    captions = re.findall(r"<caption>([^<]+)", text)
    assert captions == [
        "a: edit distance, bytes ↓ ",
        "b: edit distance, bytes ↓ ",
        "Frechet distance, a ",
        "Frechet distance, b ",
    ]


def test_retrieval_goes_where_coherence_goes(
    finish_suite: Callable[..., Any], add_retrieval: Callable[..., None]
) -> None:
    suite = finish_suite("modalities: [[a, b]]\nmethods: {one: {}, two: {}}\n")
    for trial in suite.trials:
        run_dir = suite.suite_dir.run_dir(trial)
        drop_coherence(run_dir)
        add_retrieval(run_dir, 0.6 if trial.coordinates.method == "one" else 0.3)
    write_leaderboard(suite.suite_dir, suite.spec, suite.trials, COMMAND)
    text = (suite.suite_dir.path / "leaderboard.html").read_text()
    headline = '<dt>Best joint retrieval at 1</dt><dd class="figure">0.600</dd>'
    assert headline + '<dd class="note">one on a + b' in text
    assert "; ceiling 0.900</dd>" in text
    captions = [caption.strip() for caption in re.findall(r"<caption>([^<]+)", text)]
    assert captions[:4] == [
        "joint retrieval at 1",
        "joint retrieval at 10",
        "conditional retrieval at 1",
        "conditional retrieval at 10",
    ]
    assert "<h3>Joint retrieval at 1 against quality and cost</h3>" in text
    markdown = (suite.suite_dir.path / "leaderboard.md").read_text()
    assert "a + b: one to one, retrieval at 1" in markdown
    assert "| a → b | b → a |" in markdown
    header = suite.suite_dir.results.read_text().partition("\n")[0].split(",")
    for column in (
        "joint_retrieval",
        "conditional_retrieval_at_10 of reconstructions",
        "joint_retrieval of real",
        "a>b retrieval",
        "candidates",
    ):
        assert column in header
