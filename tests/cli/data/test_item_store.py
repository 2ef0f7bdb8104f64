"""Columns of items in files: filled once, gone on with after a kill, and mapped."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mld.data import item_places, item_store
from mld.data.columns import Column
from mld.data.item_places import IN_MEMORY, ItemPlaces
from mld.data.item_store import ItemStore
from mld.data.modality_columns import load_column
from mld.data.packed_items import Items
from mld.data.stored_rows import MappedTensor
from mld_core import Modality, ModalityConfig, OutputError, Split


class Levels(Modality):
    """Raw: a list of whole numbers up to 255, which are packed into a byte each."""

    kind = "levels"
    Config = ModalityConfig

    def preprocess(self, raw: Any) -> Tensor:
        if raw == "bad":
            raise ValueError("is bad")
        if raw[0] == 7:
            warnings.warn("is a seven", stacklevel=1)
        return torch.tensor(raw, dtype=torch.float32)

    def pack(self, x: Tensor) -> Tensor:
        return x.to(torch.uint8)

    def unpack(self, packed: Tensor) -> Tensor:
        return packed.float()


Levels.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
LEVELS = Levels(ModalityConfig(latent_dim=1))
ROWS: Sequence[Any] = [[1, 2], None, [7, 4], "bad", [5, 250], [7, 8], None, [0, 0]]


class Reads(list[Any]):
    """Raw data that count how often they are read, and kill the process at one row."""

    kill_at = len(ROWS)

    def __getitem__(self, row: Any) -> Any:
        if row == self.kill_at:
            raise KeyboardInterrupt
        self.read = [*getattr(self, "read", []), row]
        return super().__getitem__(row)


@pytest.fixture(autouse=True)
def plugin_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_places, "code_digest", lambda module: "code")


def column(raw: Sequence[Any], rejected: Mapping[str, Any] | None = None) -> Column:
    split = Split([f"row-{row}" for row in range(len(raw))], {"x": raw})
    return Column(split, "train", "x", "rows", rejected=rejected or {})


def on_disk(folder: Path, rows: str = "rows") -> ItemPlaces:
    return ItemPlaces("disk", ItemStore(folder, rows), len(ROWS))


def load(raw: Sequence[Any], places: ItemPlaces) -> tuple[Tensor, Any, list[str]]:
    """The items, what cannot be used, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load_column(column(raw), LEVELS, places, 2)
    assert loaded.packed is not None
    items = Items.of(LEVELS, loaded.packed, loaded.present)[:]
    return items, loaded.faults, [str(warning.message) for warning in caught]


def same(a: tuple[Tensor, Any, list[str]], b: tuple[Tensor, Any, list[str]]) -> bool:
    return torch.equal(a[0], b[0]) and a[1:] == b[1:]


def test_items_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    expected = load(ROWS, IN_MEMORY)
    assert expected[0].tolist()[:3] == [[1, 2], [0, 0], [7, 4]]
    assert len(expected[1]) == 1
    assert len(expected[2]) == 1
    raw = Reads(ROWS)
    assert same(load(raw, on_disk(tmp_path)), expected)
    assert len(raw.read) == len(ROWS)
    # Again, nothing is read.
    raw = Reads(ROWS)
    assert same(load(raw, on_disk(tmp_path)), expected)
    assert not hasattr(raw, "read")


@pytest.mark.parametrize("seconds", [0.0, 1e9])
@pytest.mark.parametrize("kill_at", range(1, len(ROWS)))
def test_a_killed_process_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, kill_at: int
) -> None:
    monkeypatch.setattr(item_store, "SAVE_SECONDS", seconds)
    killed = Reads(ROWS)
    killed.kill_at = kill_at
    with pytest.raises(KeyboardInterrupt):
        load(killed, on_disk(tmp_path))
    # A part of an item that was being written.
    (file,) = tmp_path.rglob("items.bin")
    with file.open("ab") as items:
        items.write(b"\xff")
    raw = Reads(ROWS)
    assert same(load(raw, on_disk(tmp_path)), load(ROWS, IN_MEMORY))
    saved = max((row for row in range(kill_at) if isinstance(ROWS[row], list)), default=-1)
    assert raw.read[0] == (saved + 1 if seconds == 0 else 0)


@pytest.mark.parametrize("name", ["items.bin", "column.json"])
def test_a_changed_file_is_filled_again(tmp_path: Path, name: str) -> None:
    expected = load(ROWS, on_disk(tmp_path))
    (file,) = tmp_path.rglob(name)
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    again = load(ROWS, on_disk(tmp_path))
    assert same((*again[:2], again[2][1:]), expected)
    assert name in again[2][0]
    assert "read again" in again[2][0]


def test_other_rows_have_files_of_their_own(tmp_path: Path) -> None:
    load(ROWS, on_disk(tmp_path))
    others = load([[3, 3]], on_disk(tmp_path, "others"))
    assert others[0].tolist() == [[3, 3]]
    assert len([*tmp_path.rglob("items.bin")]) == 2


def test_a_column_without_items(tmp_path: Path) -> None:
    for _ in range(2):
        loaded = load_column(column([None, None]), LEVELS, on_disk(tmp_path), 2)
        assert loaded.packed is None
        assert not loaded.present.any()


@pytest.mark.parametrize(
    ("setting", "item_bytes", "expected"),
    [("auto", 100, False), ("auto", 2**20, True), ("disk", 1, True), ("memory", 2**40, False)],
)
def test_large_modalities_are_kept_on_disk(
    tmp_path: Path, setting: Any, item_bytes: int, expected: bool
) -> None:
    assert ItemPlaces(setting, ItemStore(tmp_path, ""), 1000).is_on_disk(item_bytes) is expected
    assert not ItemPlaces(setting, None, 1000).is_on_disk(item_bytes)


def test_items_that_do_not_fit_on_the_disk(tmp_path: Path) -> None:
    store = ItemStore(tmp_path / "not there yet", "")
    store.check_space(1)
    with pytest.raises(OutputError, match=r"has room for .* GB, and the items need 1000000\.0 GB"):
        store.check_space(10**15)


def test_mapped_items_are_sent_to_other_processes_by_name(tmp_path: Path) -> None:
    x, present = torch.arange(20_000, dtype=torch.uint8).view(10, -1), torch.ones(10).bool()
    items = Items.of(LEVELS, x, present)
    mapped = items.in_file(tmp_path / "x.bin")
    assert isinstance(mapped.packed, MappedTensor)
    assert mapped.in_file(tmp_path / "again.bin") is mapped
    content = pickle.dumps((mapped.packed, mapped.place))
    assert len(content) < 2000
    packed, place = pickle.loads(content)
    received = Items(LEVELS, packed, place)
    assert torch.equal(received[:], items[:])
    assert received.digest == mapped.digest == items.digest


def test_a_digest_follows_values_and_gaps_and_not_their_place() -> None:
    x = torch.tensor([[1], [2], [3]], dtype=torch.uint8)
    present = torch.tensor([True, False, True])
    items = Items.of(LEVELS, x[:2], present)
    assert items.digest == Items(LEVELS, x.flip(0), torch.tensor([2, -1, 1])).digest
    assert items.digest != Items(LEVELS, x, torch.tensor([-1, 0, 1])).digest
    assert items.digest != Items(LEVELS, x, torch.tensor([0, -1, 2])).digest
    assert items.digest != Items.of(LEVELS, x[:2].int(), present).digest


def test_parts_of_items() -> None:
    x = torch.tensor([[1], [2], [3]], dtype=torch.uint8)
    items = Items.of(LEVELS, x, torch.tensor([True, False, True, True]))
    assert items[:].tolist() == [[1], [0], [2], [3]]
    assert items[3].tolist() == [3]
    assert items[torch.tensor([2, 2, 1])].tolist() == [[2], [2], [0]]
    assert items.recorded[:].tolist() == [[1], [2], [3]]
    assert items.select(slice(1, 3)).recorded[:].tolist() == [[2]]
    assert items.select(slice(1, 2))[:].tolist() == [[0]]
    none = Items.of(LEVELS, x[:0], torch.zeros(2).bool())
    assert none[:].tolist() == [[0], [0]]
    assert items[:0].shape == (0, 1)
