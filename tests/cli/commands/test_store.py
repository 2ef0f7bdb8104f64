"""`mld store list` and `mld store prune`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from mld.app import app
from mld.data.columns import ColumnItems
from mld.data.item_store import ItemStore
from mld.storage.weight_store import WeightStore

DAY = 86_400
Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightStore:
    """A store with the weights of two trainings and one column of items, 40, 20 and 60 days old."""
    monkeypatch.setenv("MLD_STORE", str(tmp_path / "store"))
    store = WeightStore(tmp_path / "store")
    for name, days in (("old", 40), ("new", 20)):
        key = {"job": "autoencode", "name": name, "kind": "image"}
        with store.entry(key) as entry:
            entry.write({"weight": torch.zeros(1000)}, {})
        _age(entry.path, days)
    fill(store)
    for path in store.items.rglob("*"):
        _age(path, 60)
    return store


@pytest.fixture
def mld() -> Run:
    return lambda *words: CliRunner().invoke(app, ["store", *words])


def fill(store: WeightStore) -> ColumnItems:
    """A column of three items, which are in use as long as the result lives."""
    key = {"split": "train", "column": "photo", "kind": "image"}
    with ItemStore(store.items, "rows").column(key, 3) as column:
        for row in range(column.next_row, 3):
            column.add(row, torch.zeros(1, 500))
        return column.finish()


def _age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def contents(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [entry["content"] for entry in json.loads(result.stdout)]


NEW, OLD, ITEMS = "autoencode new image", "autoencode old image", "train photo image"


def test_entries_are_listed_by_their_last_use(store: WeightStore, mld: Run) -> None:
    assert contents(mld("list", "--json")) == [NEW, OLD, ITEMS]
    result = mld("list")
    assert [line.rpartition("  ")[2] for line in result.stdout.splitlines()] == [NEW, OLD, ITEMS]
    assert "3 entries, 0.00 GB" in result.stderr
    with store.entry({"job": "autoencode", "name": "old", "kind": "image"}) as entry:
        assert entry.read() is not None
    items = fill(store)
    assert items.count == 3
    assert set(contents(mld("list", "--json"))[:2]) == {OLD, ITEMS}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [NEW]),
        (["--older-than", "50"], [NEW, OLD]),
        (["--older-than", "90"], [NEW, OLD, ITEMS]),
        (["--older-than", "90", "--keep", "0.000006"], [NEW]),
        (["--keep", "0"], []),
        (["--keep", "0", "--dry-run"], [NEW, OLD, ITEMS]),
    ],
)
def test_what_was_not_used_is_deleted(
    store: WeightStore, mld: Run, options: list[str], expected: list[str]
) -> None:
    deleted = contents(mld("prune", "--json", *options))
    assert contents(mld("list", "--json")) == expected
    if "--dry-run" not in options:
        assert sorted([*deleted, *expected]) == sorted([NEW, OLD, ITEMS])


def test_what_is_in_use_stays(store: WeightStore, mld: Run) -> None:
    items = fill(store)
    with store.entry({"job": "autoencode", "name": "old", "kind": "image"}):
        result = mld("prune", "--keep", "0")
    assert "1 entry" in result.stderr
    assert "2 in use" in result.stderr
    assert set(contents(mld("list", "--json"))) == {OLD, ITEMS}
    del items
    assert contents(mld("prune", "--keep", "0", "--json")) == [ITEMS, OLD]
    assert fill(store).count == 3


def test_an_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mld: Run) -> None:
    monkeypatch.setenv("MLD_STORE", str(tmp_path / "none"))
    assert contents(mld("list", "--json")) == []
    assert contents(mld("prune", "--json")) == []
    assert not (tmp_path / "none").exists()
