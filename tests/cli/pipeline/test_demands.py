"""What a run demands of its data, issued by a dry run and by a run before any training."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mld.config.spec import Spec
from mld.data.columns import Column
from mld.data.coverage import Coverage, coverage_of, declared_coverage
from mld.data.loading import Data, fit_modalities, open_dataset
from mld.inference.trained_run import load
from mld.pipeline.demands import check_demands
from mld.pipeline.plan import plan
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import DataError, Registry

Rows = list[tuple[str, str, int]]
"""Of each kind of row: the modalities that it has with its label, its split, and how many."""

TRAIN: Rows = [("ab 0", "train", 2), ("ab 1", "train", 2)]
VALIDATION: Rows = [("ab 0", "validation", 2)]
TEST: Rows = [("ab 0", "test", 1), ("ab 1", "test", 1)]


def shortfalls(spec: Spec, registry: Registry) -> list[str]:
    coverage = declared_coverage(open_dataset(spec, registry), spec.modalities)
    return [
        f"{stage.name}: {message}" for stage, message in check_demands(spec, registry, coverage)
    ]


@pytest.mark.parametrize(
    ("rows", "overrides", "expected"),
    [
        (TRAIN + VALIDATION, [], "the test split has no rows"),
        (TRAIN + TEST, ["generate.split=validation"], "the validation split has no rows"),
        ([*TRAIN, ("", "test", 3)], [], "the test split has no rows"),
        (
            [("ab 0", "train", 1), ("a 0", "train", 5), *TEST],
            [],
            "the train split has 1 item of modality 'b', but at least 2 are needed",
        ),
        (
            [("a 0", "train", 5), *TEST],
            [],
            "the train split has no item of modality 'b', but at least 2 are needed",
        ),
        (
            [("a 0", "train", 3), ("b 0", "train", 3), *TEST],
            ["diffuse.roles=paper", "generate.guidance=0"],
            "roles: paper needs complete rows, and the train split has none",
        ),
        (
            [*TRAIN, ("a 0", "test", 3)],
            ["generate.subsets=[[b]]"],
            "generate.subsets: no row of the test split has all",
        ),
        (
            [*TRAIN, *TEST],
            ["data.missing={rate: {a: 0.99}}"],
            "the train split has no item of modality 'a'",
        ),
    ],
)
def test_what_a_run_cannot_do_without(
    spec_of: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: Rows,
    overrides: list[str],
    expected: str,
) -> None:
    spec = spec_of(rows, *overrides)
    # Neither a dry run nor a run reads an item before it says so.
    monkeypatch.setattr(Column, "_read", lambda *_: pytest.fail("an item was read"))
    with pytest.raises(DataError, match=expected):
        plan(spec, registry)
    with pytest.raises(DataError, match=expected):
        run(spec, RunDir(tmp_path / "out"), registry)
    assert not (tmp_path / "out").exists()


def test_all_errors_are_in_one_message(spec_of: Callable[..., Spec], registry: Registry) -> None:
    with pytest.raises(DataError, match=r"(?s)no rows.*no item of modality 'b'"):
        shortfalls(spec_of([("a 0", "train", 3)]), registry)


@pytest.mark.parametrize(
    ("rows", "overrides", "expected"),
    [
        (TRAIN + VALIDATION + TEST, [], []),
        (TRAIN + TEST, [], ["autoencode: the validation split has no rows"]),
        (
            [*TRAIN, ("a 0", "validation", 2), *TEST],
            [],
            ["autoencode: the validation split has no item of modality 'b'"],
        ),
        (
            [*TRAIN, *VALIDATION, ("a 0", "test", 2), ("b 1", "test", 2)],
            ["modalities.c={kind: marks, latent_dim: 3}"],
            None,  # the manifest has no such column
        ),
        (
            [*TRAIN, *VALIDATION, ("a 0", "test", 3)],
            [],
            [
                "generate: samples given b are left out: no row of the test split has",
                "evaluate: samples of b are not compared with real ones: the test split has none",
            ],
        ),
        (
            [("ab", "train", 4), *VALIDATION, *TEST],
            [],
            ["evaluate: a, b: no item of the train split has a label"],
        ),
        (
            [("ab", "train", 4), ("a 0", "train", 1), ("a 1", "train", 1), *VALIDATION, *TEST],
            [],
            ["evaluate: b: no item of the train split has a label"],
        ),
        (
            [*TRAIN, *VALIDATION, ("ab", "test", 2)],
            [],
            ["evaluate: no row of the test split has a label"],
        ),
        (
            [*TRAIN, ("a 2", "train", 2), *VALIDATION, *TEST],
            [],
            ["evaluate: class '2' has no item of b in the train split"],
        ),
        (
            [("ab", "train", 4), ("ab", "validation", 1), ("ab", "test", 2)],
            [],
            [],  # without labels at all, nothing is expected of them
        ),
        (
            [("a", "train", 4), ("b", "train", 4), ("ab", "validation", 1), ("ab", "test", 2)],
            [],
            ["evaluate: retrieval of a and b by each other is not measured: the train split has"],
        ),
        (
            [("a 0", "train", 4), ("b 1", "train", 4), *VALIDATION, *TEST],
            ["evaluate.judge=retrieval"],
            ["evaluate: retrieval of a and b"],  # and nothing of classes
        ),
    ],
)
def test_what_a_run_goes_on_without(
    spec_of: Callable[..., Spec],
    registry: Registry,
    rows: Rows,
    overrides: list[str],
    expected: list[str] | None,
) -> None:
    spec = spec_of(rows, *overrides)
    if expected is None:
        with pytest.raises(DataError, match="no column for c"):
            shortfalls(spec, registry)
        return
    messages = shortfalls(spec, registry)
    assert len(messages) == len(expected)
    for message, beginning in zip(messages, expected, strict=True):
        assert message.startswith(beginning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan(spec, registry)
    issued = [str(warning.message) for warning in caught]
    assert issued == [text.partition(": ")[2] for text in messages]


def test_a_dataset_tells_its_coverage_without_being_read(
    spec_of: Callable[..., Spec], registry: Registry
) -> None:
    rows = [*TRAIN, ("a 1", "train", 9), ("b", "validation", 2), ("", "train", 3), *TEST]
    spec = spec_of(rows, "data.missing={rate: 0.3}")
    dataset = open_dataset(spec, registry)
    declared = declared_coverage(dataset, spec.modalities)
    assert declared.splits["validation"].labelled == {"a": [0, 0], "b": [0, 0]}
    assert declared == coverage_of(Data(dataset, fit_modalities(spec, dataset, registry)))
    record = json.loads(json.dumps(declared.as_json()))
    assert Coverage.from_json(record, declared.classes) == declared


@pytest.mark.parametrize(
    ("rows", "classified"),
    [
        ([("ab", "train", 4), ("a 0", "train", 1), ("a 1", "train", 1)], ["a"]),
        ([("ab", "train", 4)], []),
    ],
)
def test_a_run_with_less_is_evaluated_on_what_there_is(
    spec_of: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    rows: Rows,
    classified: list[str],
) -> None:
    spec = spec_of([*rows, ("ab 1", "validation", 1), ("a 0", "test", 2)])
    run_dir = RunDir(tmp_path / "out")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(spec, run_dir, registry)
        run(spec, run_dir, registry)  # a finished run goes on without a word
    issued = [str(warning.message) for warning in caught]
    logged = [event["message"] for event in run_dir.read_events() if event["event"] == "warning"]
    scores = json.loads(run_dir.metrics.read_text())
    report = run_dir.report.read_text()
    for beginning in ("samples given b are left out", "samples of b are not compared"):
        for messages in (issued, logged):
            assert len([message for message in messages if message.startswith(beginning)]) == 1
        assert beginning in report
    assert set(scores["nfe"]) == {"joint", "a"}
    extractors = {entry["target"]: entry["extractor"] for entry in scores["frechet"]}
    assert not extractors["b"].startswith("latents of")  # but the judge's features
    assert scores["modalities"]["b"]["classifier_accuracy"] is None
    assert (scores["modalities"]["a"]["classifier_accuracy"] is not None) == bool(classified)
    assert scores["joint_coherence"] is None
    assert list(load(run_dir.path, registry).classifiers) == classified


def test_the_evaluation_may_change_after_the_data_are_prepared(
    spec_of: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    rows = [*TRAIN, *VALIDATION, ("a 0", "test", 2)]
    run_dir = RunDir(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(spec_of(rows), run_dir, registry)
    with pytest.raises(DataError, match=r"generate\.subsets: no row"):
        run(spec_of(rows, "generate.subsets=[[b]]"), run_dir, registry, from_stage="generate")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_classes_without_labels_in_a_split(
    spec_of: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A third-party dataset may have labels in some splits only."""
    manifest: Any = registry.dataset("manifest")
    split = manifest.split
    monkeypatch.setattr(
        manifest,
        "split",
        lambda self, name: (
            split(self, name) if name == "test" else replace(split(self, name), labels=None)
        ),
    )
    run_dir = RunDir(tmp_path / "out")
    run(spec_of([*TRAIN, *VALIDATION, *TEST]), run_dir, registry)
    logged = [event["message"] for event in run_dir.read_events() if event["event"] == "warning"]
    assert any(message.startswith("a, b: no item of the train split") for message in logged)
    assert run_dir.is_complete("report")
