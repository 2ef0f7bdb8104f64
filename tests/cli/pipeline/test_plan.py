"""The plan of a run, which reads a few items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from mld.config.spec import Spec, load_spec
from mld.data.loading import load_modalities
from mld.pipeline.plan import PEEK_ITEMS, plan
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import DataError, Dataset, DatasetConfig, Registry, Split, SplitName, hookimpl

ROWS = {"train": 1000, "validation": 200, "test": 200}


class CountedConfig(DatasetConfig):
    empty: int = 0
    invalid: int = 0


class Counted(Dataset):
    """Rows that record which items are read; `empty` rows without an item come first."""

    kind = "counted"
    Config = CountedConfig
    classes = ("a", "b")
    reads: ClassVar[list[tuple[SplitName, str, int]]] = []

    @property
    def columns(self) -> dict[str, str]:
        return {name: modality.kind for name, modality in self.modalities.items()}

    def split(self, name: SplitName) -> Split:
        return Split(
            [f"{name}-{row}" for row in range(ROWS[name])],
            {column: CountedColumn(self, name, column) for column in self.columns},
            [row % 2 for row in range(ROWS[name])],
        )


class CountedColumn(list[Any]):
    def __init__(self, dataset: Counted, split: SplitName, column: str) -> None:
        super().__init__([None] * ROWS[split])
        self.dataset, self.split, self.column = dataset, split, column
        rng = np.random.default_rng(0)
        modality = dataset.modalities[column]
        self.items = modality.examples([row % 10 for row in range(ROWS[split])], split, rng)

    def __getitem__(self, row: Any) -> Any:
        if row < self.dataset.config.empty:
            return None
        self.dataset.reads.append((self.split, self.column, row))
        if row < self.dataset.config.invalid:
            raise FileNotFoundError("a.txt is not there")
        return self.items[row]


PLUGIN = SimpleNamespace(register_datasets=hookimpl(lambda: [Counted]))


@pytest.fixture
def counted_registry(small_run: Any, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(Counted, "reads", [])
    points = [EntryPoint(kind, module, "mld") for kind, module in small_run.MODULES.items()]
    return Registry([*points, EntryPoint("counted", f"{__name__}:PLUGIN", "mld")])


@pytest.fixture
def counted_spec(spec_file: Path, counted_registry: Registry) -> Callable[..., Spec]:
    return lambda data: load_spec(spec_file, counted_registry, [f"data={{kind: counted{data}}}"])


def test_a_plan_reads_a_few_items(
    counted_spec: Callable[..., Spec], counted_registry: Registry
) -> None:
    planned = plan(counted_spec(""), counted_registry)
    assert planned.rows == ROWS
    reads = {
        column: {row for _, name, row in Counted.reads if name == column}
        for column in ("left", "right", "third")
    }
    assert all(rows == set(range(PEEK_ITEMS)) for rows in reads.values())
    assert {split for split, _, _ in Counted.reads} == {"train"}


def test_a_plan_looks_past_missing_cells(
    counted_spec: Callable[..., Spec], counted_registry: Registry
) -> None:
    plan(counted_spec(", empty: 500"), counted_registry)
    assert {row for _, _, row in Counted.reads} == set(range(500, 500 + PEEK_ITEMS))
    with pytest.raises(DataError, match="the train split has no item of modality 'left'"):
        plan(counted_spec(", empty: 1000"), counted_registry)


def test_a_plan_reports_the_items_that_it_cannot_read(
    counted_spec: Callable[..., Spec], counted_registry: Registry
) -> None:
    with pytest.raises(DataError, match=r"(?s)^192 items cannot be used.*a\.txt is not there"):
        plan(counted_spec(", invalid: 1000"), counted_registry)
    assert {row for _, _, row in Counted.reads} <= set(range(PEEK_ITEMS))


def test_a_plan_reports_every_item_that_is_known_to_be_invalid(
    counted_spec: Callable[..., Spec], counted_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_of = Counted.split

    def split(self: Counted, name: SplitName) -> Split:
        invalid = {"left": {150: "is not there"}, "right": {3: "is not there"}}
        return replace(split_of(self, name), invalid=invalid)

    monkeypatch.setattr(Counted, "split", split)
    with pytest.raises(DataError, match=r"^6 items cannot be used \(train 2, validation 2, test 2"):
        plan(counted_spec(""), counted_registry)
    for on_invalid in ("empty", "drop"):
        plan(counted_spec(f", on_invalid: {on_invalid}"), counted_registry)
    assert ("train", "right", 3) not in Counted.reads


def test_items_that_do_not_fit_into_memory(
    counted_spec: Callable[..., Spec],
    counted_registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The plan and the run refuse them before they read them."""
    spec = counted_spec("")
    needed = plan(spec, counted_registry).item_bytes.memory
    assert needed == sum(ROWS.values()) * sum(
        modality.pack(
            modality.preprocess(modality.examples([0], "train", np.random.default_rng(0))[0])[None]
        ).nbytes
        for modality in load_modalities(spec, counted_registry, {}).values()
    )

    def available(memory: int) -> None:
        for module in ("pipeline.plan", "pipeline.prepare", "data.read_ahead"):
            monkeypatch.setattr(f"mld.{module}.available_memory", lambda: memory)

    available(2 * needed)
    assert plan(spec, counted_registry).item_bytes.memory == needed
    available(needed)
    with pytest.warns(UserWarning, match="the items need .* more than half"):
        plan(spec, counted_registry)
    available(needed - 1)
    message = "the items of 1,400 rows need .* of memory, those of modality"
    with pytest.raises(DataError, match=message):
        plan(spec, counted_registry)
    with pytest.raises(DataError, match=message):
        run(spec, RunDir(tmp_path / "run"), counted_registry)
    assert not (tmp_path / "run").exists()


def test_example_data_are_drawn_for_a_few_rows_alone(
    make_spec: Callable[..., Spec], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, drawn = registry.modality("points"), []
    examples = points.examples

    def counted(self: Any, labels: Any, split: Any, rng: Any) -> Any:
        drawn.append(len(labels))
        return examples(self, labels, split, rng)

    monkeypatch.setattr(points, "examples", counted)
    planned = plan(make_spec(), registry)
    assert planned.rows["train"] == 400
    assert drawn
    assert max(drawn) == PEEK_ITEMS
    # With missing cells the look is at the complete rows.
    plan(make_spec("data.missing={rate: 0.5}"), registry)
    assert max(drawn) == PEEK_ITEMS


def test_networks_that_depend_on_facts_are_approximate(
    make_spec: Callable[..., Spec], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(job.is_exact for job in plan(make_spec(), registry).jobs)
    monkeypatch.setattr(
        registry.modality("marks"), "fit", classmethod(lambda cls, config, raw: {"length": 1})
    )
    exact = {job.name: job.is_exact for job in plan(make_spec(), registry).jobs}
    assert exact == {
        "autoencode/left": True,
        "autoencode/right": False,
        "autoencode/third": True,
        "diffuse": True,
        "classify/left": True,
        "classify/right": False,
        "classify/third": True,
    }
    relay = make_spec("diffuse={method: relay, steps: 300, batch_size: 32, learning_rate: 0.01}")
    assert not plan(relay, registry).jobs[3].is_exact
    assert all(job.is_exact for job in plan(make_spec("data.train=64"), registry).jobs)
