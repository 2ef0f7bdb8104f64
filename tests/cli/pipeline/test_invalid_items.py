"""Runs over manifests with items that cannot be used."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mld.config.spec import Spec, load_spec
from mld.pipeline.plan import plan
from mld.pipeline.prepare import PreparedData, prepare, record_data_stage
from mld.runtime.compute import resolve
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import DataError, Registry

ROWS = 60
BAD = {3: "1 2 3", 20: "1 2 3", 40: "words"}


@pytest.fixture
def manifest_spec(small_run: Any, registry: Registry, tmp_path: Path) -> Callable[..., Spec]:
    """A spec over a manifest of inline numbers, of which some are invalid."""

    def manifest_spec(bad: dict[int, str], *overrides: str) -> Spec:
        splits = ["train", "train", "train", "train", "validation", "test"]
        lines = [
            f"r{row},{bad.get(row, ' '.join([str(row % 7)] * 6))},{row} 1 2 3 4 5,{split}"
            for row, split in ((row, splits[row % 6]) for row in range(ROWS))
        ]
        (tmp_path / "rows.csv").write_text("\n".join(["id,right,left,split", *lines]) + "\n")
        path = tmp_path / "spec.yaml"
        path.write_text(small_run.SPEC)
        data = "data={kind: manifest, path: rows.csv}"
        marks = "{kind: marks, latent_dim: 2}"
        modalities = f"modalities={{left: {marks}, right: {marks}}}"
        return load_spec(path, registry, [data, modalities, *overrides])

    return manifest_spec


@pytest.fixture
def prepare_run(
    registry: Registry, tmp_path: Path
) -> Callable[[Spec], tuple[PreparedData, RunDir]]:
    """Prepares the data of a run and records the stage."""

    def prepare_run(spec: Spec) -> tuple[PreparedData, RunDir]:
        run_dir = RunDir(tmp_path / "run")
        store = WeightStore(tmp_path / "store")
        sections = spec.model_dump(mode="json")
        context = RunContext(run_dir, store, resolve(spec.compute), spec.seed, sections)
        prepared = prepare(spec, registry, context)
        record_data_stage(prepared, context)
        return prepared, run_dir

    return prepare_run


def test_a_few_invalid_items_leave_no_trace(
    manifest_spec: Callable[..., Spec], prepare_run: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"^3 items cannot be used \(train 2, validation 1\)"):
        prepare_run(manifest_spec(BAD))
    assert not (tmp_path / "run").exists()


def test_many_invalid_items_are_listed_in_a_file(
    manifest_spec: Callable[..., Spec], prepare_run: Any, registry: Registry, tmp_path: Path
) -> None:
    bad = dict.fromkeys(range(0, ROWS, 2), "1 2 3")
    with pytest.raises(DataError) as caught:
        prepare_run(manifest_spec(bad))
    listed = tmp_path / "run" / "invalid.csv"
    assert str(caught.value).endswith(f"\nall of them are listed in {listed}")
    with listed.open() as file:
        rows = [*csv.DictReader(file)]
    assert {row["row"] for row in rows} == {f"r{row}" for row in bad}
    assert {row["split"] for row in rows} == {"train", "validation"}
    # A dry run has no folder.
    with pytest.raises(DataError, match=r"^20 items cannot .*\n.* 'r26' and 10 more, "):
        plan(manifest_spec(bad), registry)
    # The next run goes on in the folder, and its data are valid.
    prepare_run(manifest_spec({}))
    assert not listed.exists()


@pytest.mark.parametrize(("on_invalid", "rows"), [("empty", 40), ("drop", 38)])
def test_invalid_items_are_left_out_with_a_warning(
    manifest_spec: Callable[..., Spec],
    prepare_run: Any,
    on_invalid: str,
    rows: int,
) -> None:
    spec = manifest_spec(BAD, f"data.on_invalid={on_invalid}")
    with pytest.warns(UserWarning, match=f"^data.on_invalid: {on_invalid} leaves"):
        prepared, run_dir = prepare_run(spec)
    train = prepared.data.train
    assert len(train.ids) == rows
    assert int(train.present.sum()) == {"empty": 78, "drop": 76}[on_invalid]
    messages = [event["message"] for event in run_dir.read_events() if event["event"] == "warning"]
    (message,) = [message for message in messages if message.startswith("data.on_invalid")]
    assert "(train 2, validation 1)" in message
    assert re.search(r"rows 'r3', 'r20', modality 'right': .*3 numbers, expected 6", message)
    with run_dir.invalid_items.open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["r3", "r20", "r40"]
    assert run_dir.stage_metadata("data")["rows"]["train"] == rows
    # A resumed run reads the same rows, and warns no more.
    again, _ = prepare_run(spec)
    assert again.data.train.ids == train.ids
    assert again.warnings == []
