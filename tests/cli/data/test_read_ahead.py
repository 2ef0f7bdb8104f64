from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, ClassVar

import cloudpickle
import pytest
import torch
from pydantic import Field
from torch import Tensor

from mld.config.plugin_sections import KindSpec, OnInvalid
from mld.config.spec import Spec
from mld.data import read_ahead as module
from mld.data.item_places import IN_MEMORY
from mld.data.loading import Data, fit_columns, modalities_of
from mld.data.modality_columns import Fit
from mld.data.read_ahead import NOTHING_READ, ModalityToRead, ReadAhead, read_ahead
from mld.runtime.worker_pool import WorkerPool
from mld_core import (
    SPLITS,
    Dataset,
    DatasetConfig,
    MLDError,
    Modality,
    ModalityConfig,
    Split,
)

# Workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class NumbersConfig(ModalityConfig):
    latent_dim: int = 1


class Numbers(Modality):
    """Raw: a list of numbers. The fact is the greatest number of the training split."""

    kind = "numbers"
    Config = NumbersConfig
    autoencoder = classifier = write = read = examples = None  # type: ignore[assignment]

    @classmethod
    def fit(cls, config: Any, raw: Any) -> dict[str, Any]:
        greatest = [max(numbers) for numbers in raw]
        if 13 in greatest:
            raise ValueError("13 is unlucky")
        warnings.warn(f"{len(greatest)} rows", stacklevel=1)
        return {"greatest": max(greatest)}

    def preprocess(self, raw: Any) -> torch.Tensor:
        if raw[0] < 0:
            raise ValueError(f"{raw[0]} is negative")
        if raw[0] == 14:
            raise RuntimeError("a bug")
        if raw[0] == 15:
            warnings.warn("is pale", stacklevel=1)
        return torch.tensor(raw) / self.facts["greatest"]


class RowsConfig(DatasetConfig):
    splits: dict[str, list[Any]] = Field({})


class Rows(Dataset):
    """Pairs of items of the columns left and right, as listed in the config."""

    kind = "rows"
    Config = RowsConfig
    config: RowsConfig
    columns: ClassVar = {"left": "numbers", "right": "numbers"}
    classes = ()

    def split(self, name: str) -> Split:
        rows = self.config.splits.get(name, [])
        warnings.warn(f"opens {name}", stacklevel=1)
        items = {side: [row[i] for row in rows] for i, side in enumerate(self.columns)}
        return Split([f"{name}-{row}" for row in range(len(rows))], items)


class CannotBeSent(Rows):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock = Lock()


class CannotBeReceived(Rows):
    def __reduce__(self) -> Any:
        return fail, ()


def fail() -> None:
    raise KeyError("lost")


NUMBERS = KindSpec(kind="numbers", config=NumbersConfig())


class OneKind:
    """Stands for a Registry."""

    def modality(self, kind: str) -> type[Modality]:
        return Numbers


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def ahead_of(dataset: Dataset, pool: WorkerPool | None, rows: int = 9) -> ReadAhead:
    config = NumbersConfig()
    modalities = {name: ModalityToRead(Numbers, config) for name in dataset.columns}
    return read_ahead(dataset, modalities, replace(IN_MEMORY, rows=rows), pool)


def read(
    dataset: Dataset, ahead: ReadAhead, on_invalid: OnInvalid = "error"
) -> tuple[Any, list[str], str]:
    """All that is read, the warnings, and the error."""
    spec = Spec(
        name="test",
        data=KindSpec(kind="rows", config=dataset.config),
        modalities=dict.fromkeys(dataset.columns, NUMBERS),
    )
    registry: Any = OneKind()
    result: list[Any] = []
    error = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            fits = fit_columns(spec, dataset, registry, ahead=ahead)
            modalities = modalities_of(spec, registry, fits)
            result += [modality.facts for modality in modalities.values()]
            rejected = {name: fit.rejected for name, fit in fits.items()}
            data = Data(dataset, modalities, ahead, on_invalid, rejected)
            for name in SPLITS:
                rows = data.split(name)
                result += [rows.ids, rows.present.tolist(), rows.dropped, rows.faults]
                result += [
                    (x.dtype, x.shape, x.tolist())
                    for x in (items[:] for items in rows.items.values())
                ]
        except MLDError as raised:
            error = f"{type(raised).__name__}: {raised}"
    return result, [str(warning.message) for warning in caught], error


GOOD = [([1.0, 2.0], [3.0]), (None, [15.0]), (None, None), ([15.0, 6.0], None)]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": GOOD, "validation": GOOD[:1], "test": [(None, [1.0]), (None, None)]}, ""),
        (
            {"train": [([-1.0], [1.0]), ([1.0], [-2.0])], "test": [([-3.0], [1.0])]},
            "InvalidItemsError: 3 items cannot be used (train 2, test 1):\n"
            "  rows 'train-0', 'test-0', modality 'left': -1.0 is negative\n"
            "  row 'train-1', modality 'right': -2.0 is negative",
        ),
        (
            {"train": GOOD, "test": [([-1.0], [1.0]), ([1.0], [14.0])]},
            "PluginError: kind 'numbers': preprocess of row 'test-1', modality 'right' failed: "
            "RuntimeError: a bug",
        ),
        (
            {"train": [([-1.0], [13.0]), ([1.0], [1.0])]},
            "InvalidItemsError: 2 items cannot be used (train 2):\n"
            "  row 'train-0', modality 'left': -1.0 is negative\n"
            "  row 'train-0', modality 'right': 13 is unlucky",
        ),
        ({"train": [([1.0], None)]}, "DataError: modality 'right' cannot be fitted: "),
    ],
)
def test_what_processes_read_is_what_one_reads(
    pool: WorkerPool, splits: Mapping[str, Sequence[Any]], expected: str
) -> None:
    dataset = Rows(RowsConfig(splits=dict(splits)), {}, 0)
    alone = read(dataset, NOTHING_READ)
    assert read(dataset, ahead_of(dataset, pool)) == alone
    assert alone[2].startswith(expected)
    assert bool(alone[2]) == bool(expected)
    assert "2 rows" in alone[1] or expected.endswith(": ")
    assert not list(pool.folder.rglob("*-train.safetensors")) or expected


@pytest.mark.parametrize("on_invalid", ["empty", "drop"])
def test_processes_leave_out_the_same_invalid_items(
    pool: WorkerPool, on_invalid: OnInvalid
) -> None:
    train = [*GOOD, ([-1.0, 0.0], [1.0]), ([2.0, 0.0], [13.0])]
    dataset = Rows(RowsConfig(splits={"train": train, "test": [([-1.0, 0.0], [2.0])]}), {}, 0)
    alone = read(dataset, NOTHING_READ, on_invalid)
    assert read(dataset, ahead_of(dataset, pool), on_invalid) == alone
    assert alone[2] == ""
    assert len(alone[0][2]) == (5 if on_invalid == "empty" else 3)


def test_facts_of_an_earlier_fit_are_kept(pool: WorkerPool) -> None:
    dataset = Rows(RowsConfig(splits={"train": GOOD}), {}, 0)
    fitted = ModalityToRead(Numbers, NumbersConfig(), Fit({"greatest": 0.5}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ahead = read_ahead(dataset, {"left": fitted}, IN_MEMORY, pool)
        column = ahead.result("left", "train", not_read)
        with pytest.raises(AssertionError):
            ahead.result("left", "fit", not_read)
    assert isinstance(column.packed, Tensor)
    assert column.packed[0].tolist() == [2.0, 4.0]


def not_read() -> Any:
    raise AssertionError("read in this process")


@pytest.mark.parametrize("kind", [CannotBeSent, CannotBeReceived])
def test_a_dataset_that_cannot_be_sent_is_read_in_this_process(
    pool: WorkerPool, kind: type[Rows]
) -> None:
    dataset = kind(RowsConfig(splits={"train": GOOD}), {}, 0)
    ahead = ahead_of(dataset, pool)
    with pytest.raises(AssertionError, match="read in this process"):
        ahead.result("left", "fit", not_read)
    assert read(dataset, ahead) == read(dataset, NOTHING_READ)


def test_columns_larger_than_the_memory_are_left_to_this_process(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 100)
    dataset = Rows(RowsConfig(splits={"train": GOOD}), {}, 0)
    ahead = ahead_of(dataset, pool, rows=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Items of 8 bytes on the left and of 4 on the right.
        assert ahead.result("left", "fit", not_read) == Fit({"greatest": 15.0})
        with pytest.raises(AssertionError, match="read in this process"):
            ahead.result("left", "train", not_read)
        assert ahead.result("right", "train", not_read).present.tolist() == [1, 1, 0, 0]
