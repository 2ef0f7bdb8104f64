"""The dataset `parquet`: what cells may be, what is read when, and what is an error."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_modalities import PAGE, WORD, Page

from mld_core import SPLITS, DataError, OutputError, PluginError, Registry, Split

pyarrow = pytest.importorskip("pyarrow", reason="needs pip install 'mld-toolkit[parquet]'")
parquet_library = pytest.importorskip("pyarrow.parquet")

from mld_datasets import parquet_file  # noqa: E402
from mld_datasets.parquet import Parquet, ParquetConfig  # noqa: E402


@pytest.fixture
def open_rows(tmp_path: Path):
    """Writes columns to a Parquet file, and opens it with the modalities `word` and `page`."""

    def open_rows(
        columns: dict[str, Any], seed: int = 0, options: dict[str, Any] | None = None, **settings
    ) -> Parquet:
        parquet_library.write_table(
            pyarrow.table(columns), tmp_path / "rows.parquet", **(options or {})
        )
        config = ParquetConfig(**{"path": tmp_path / "rows.parquet", **settings})
        modalities = {"word": WORD, "page": PAGE}
        used = {name: modalities[name] for name in modalities if name in columns}
        return Parquet(config, used, seed)

    return open_rows


def train(dataset: Parquet) -> Split:
    return dataset.split("train")


ALL = {"validation": 0.0, "test": 0.0}


def test_dataset_is_installed() -> None:
    assert Registry().dataset("parquet") is Parquet


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "", None], ["A", None, None]),
        (pyarrow.array(["a", "", None], pyarrow.large_string()), ["A", None, None]),
        (pyarrow.array(["a", "", None], pyarrow.string_view()), ["A", None, None]),
        (pyarrow.array(["a", "", None]).dictionary_encode(), ["A", None, None]),
        ([b"a", b"", None], ["A", None, None]),
        ([7, 0, None], ["7", "0", None]),
        ([0.1, 0.0, None], ["0.1", "0.0", None]),
        ([True, False, None], ["TRUE", "FALSE", None]),
        ([Decimal("1.50"), Decimal(0), None], ["1.50", "0.00", None]),
    ],
)
def test_cells_of_inline_modalities(open_rows, values, expected: list[str | None]) -> None:
    split = train(open_rows({"word": values}, **ALL))
    assert list(split.items["word"]) == expected
    assert split.present == {"word": [item is not None for item in expected]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"x", b"", None], [("", b"x"), ("", b""), None]),
        (
            [
                {"bytes": b"x", "path": "a/b.png"},
                {"bytes": b"y", "path": None},
                {"bytes": None, "path": "c.txt"},
                {"bytes": None, "path": None},
                None,
            ],
            [(".png", b"x"), ("", b"y"), (".txt", b"page c"), None, None],
        ),
        (["c.txt", "", None], [(".txt", b"page c"), None, None]),
    ],
)
def test_cells_of_other_modalities(open_rows, tmp_path: Path, values, expected) -> None:
    (tmp_path / "c.txt").write_text("page c")
    split = train(open_rows({"page": values}, **ALL))
    assert list(split.items["page"]) == expected
    assert split.present == {"page": [item is not None for item in expected]}


def test_lists_of_numbers_are_files_of_arrays(open_rows, tmp_path: Path) -> None:
    values = pyarrow.array([[1.5, 2.5], None], pyarrow.list_(pyarrow.float32()))
    split = train(open_rows({"page": values}, **ALL))
    suffix, content = split.items["page"][0]
    (tmp_path / "x.npy").write_bytes(content)
    assert suffix == ".npy"
    assert np.load(tmp_path / "x.npy").tolist() == [1.5, 2.5]
    assert split.present == {"page": [True, False]}


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("word", [["a"]], r"the cell must be text, a number, true or false, not \['a'\]"),
        ("word", [b"\xff"], "rows.parquet:1 is not UTF-8 text"),
        ("page", [[["a"], ["b", "c"]]], "inhomogeneous"),
    ],
)
def test_cells_that_cannot_be_read(open_rows, column: str, values, message: str) -> None:
    items = train(open_rows({column: values}, **ALL)).items[column]
    with pytest.raises(ValueError, match=message):
        items[0]


def test_files_that_are_named_and_missing_are_known_before_any_is_read(open_rows) -> None:
    split = train(open_rows({"page": ["no.txt", None]}, **ALL))
    assert list(split.invalid["page"]) == [0]
    assert "no.txt cannot be read: No such file" in split.invalid["page"][0]
    (reason,) = train(open_rows({"page": [3]}, **ALL)).invalid["page"].values()
    assert reason == "the cell must be a file's name, not 3"


def test_errors_of_a_modality_name_the_file_of_the_cell(open_rows, monkeypatch) -> None:
    def read(self, source):
        raise ValueError("is odd")

    monkeypatch.setattr(Page, "read", read)
    values = [b"x", {"bytes": b"x", "path": "a/b.png"}]
    for value, name in zip(values, ["rows.parquet:1", "b.png"], strict=True):
        items = train(open_rows({"page": [value]}, **ALL)).items["page"]
        with pytest.raises(ValueError, match=f"^{name}: is odd$"):
            items[0]
    monkeypatch.setattr(Page, "read", lambda self, source: 1 / 0)
    with pytest.raises(PluginError, match=r"kind 'page': read of b\.png failed: ZeroDivision"):
        items[0]


def test_temporary_files_are_removed(open_rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    items = train(open_rows({"page": [b"x"] * 3}, **ALL)).items["page"]
    before = sorted(tmp_path.iterdir())
    assert list(items) == [("", b"x")] * 3
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_no_fault_of_an_item(open_rows, tmp_path: Path, monkeypatch) -> None:
    items = train(open_rows({"page": [b"x"]}, **ALL)).items["page"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="a temporary file cannot be written"):
        items[0]


@pytest.mark.parametrize(
    ("name", "suffix"), [("a/b.PNG", ".PNG"), ("a.p?x=1", ""), ("a.b\0", ""), ("b" * 300, "")]
)
def test_suffixes_of_temporary_files(open_rows, name: str, suffix: str) -> None:
    items = train(open_rows({"page": [{"bytes": b"x", "path": name}]}, **ALL)).items["page"]
    assert items[0] == (suffix, b"x")


@pytest.mark.parametrize("batch_bytes", [1, 100, 1 << 20])
def test_rows_in_any_order(open_rows, monkeypatch, batch_bytes: int) -> None:
    monkeypatch.setattr(parquet_file, "BATCH_BYTES", batch_bytes)
    columns = {"word": [f"w{i}" for i in range(40)], "page": [b"%d" % i for i in range(40)]}
    dataset = open_rows(columns, options={"row_group_size": 9}, **ALL)
    items = pickle.loads(pickle.dumps(dataset)).split("train").items
    for row in [*range(40), *np.random.default_rng(0).permutation(40).tolist()]:
        assert items["word"][row] == f"W{row}"
        assert items["page"][row] == ("", b"%d" % row)


def test_little_of_a_column_is_in_memory(open_rows) -> None:
    pages = [bytes([row]) * (1 << 18) for row in range(100)]
    dataset = open_rows({"page": pages}, **ALL)
    items = train(dataset).items["page"]
    for row in (0, 50, 99, 3):
        assert items[row][1] == pages[row]
        ((_, reader),) = dataset._stored._readers.values()
        assert reader._array.nbytes < 2 * parquet_file.BATCH_BYTES < 100 << 17
    assert len(pickle.dumps(dataset)) < 1e5


@pytest.mark.parametrize("column", ["word", "number", "page", "image"])
def test_complete_row_groups_are_not_read(open_rows, monkeypatch, column: str) -> None:
    values = {
        "word": ["a", "b", "", "c"],
        "number": [1, 2, None, 3],
        "page": [b"x", b"y", None, b"z"],
        "image": [{"bytes": b"x", "path": None}] * 2 + [None, {"bytes": b"z", "path": None}],
    }[column]
    groups = []
    read = parquet_file.ParquetRows.batches

    def batches(self, group: int, column: str):
        groups.append(group)
        return read(self, group, column)

    monkeypatch.setattr(parquet_file.ParquetRows, "batches", batches)
    name = "word" if column in ("word", "number") else "page"
    dataset = open_rows({name: values}, options={"row_group_size": 1}, **ALL)
    assert groups == [2]
    assert train(dataset).present == {name: [True, True, False, True]}


def test_several_files(open_rows, tmp_path: Path) -> None:
    open_rows({"word": ["a", "b"]})
    for name in ("train-1", "train-0", "test-0"):
        table = pyarrow.table({"word": [f"{name} {row}" for row in range(10)]})
        (tmp_path / name[:-2]).mkdir(exist_ok=True)
        parquet_library.write_table(table, tmp_path / name[:-2] / f"{name}.parquet")
    paths = {"train": tmp_path / "train", "test": tmp_path / "test" / "test-0.parquet"}
    dataset = Parquet(ParquetConfig(path=paths), {"word": WORD}, 0)
    ids = {name: dataset.split(name).ids for name in SPLITS}
    assert ids["test"] == [f"test/test-0.parquet:{row}" for row in range(1, 11)]
    assert [len(ids[name]) for name in SPLITS] == [18, 2, 10]
    assert ids["train"][0] == "train/train-0.parquet:1"
    assert sorted(
        [*dataset.split("train").items["word"], *dataset.split("validation").items["word"]]
    ) == [f"TRAIN-{file} {row}" for file in (0, 1) for row in range(10)]
    with pytest.raises(DataError, match="divided into train, test, beside which test cannot be"):
        Parquet(ParquetConfig(path=paths, test=0.2), {"word": WORD}, 0)


def test_labels_ids_and_splits(open_rows) -> None:
    columns = {
        "word": ["a", "b", "c"],
        "id": [7, 8, 9],
        "label": pyarrow.array(["é", None, "z "]).dictionary_encode(),
        "split": ["train", "Val", "test"],
    }
    dataset = open_rows(columns)
    assert [dataset.split(name).ids for name in SPLITS] == [["7"], ["8"], ["9"]]
    assert dataset.classes == ["z", "é"]
    assert [dataset.split(name).labels for name in SPLITS] == [[1], [-1], [0]]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"id": ["a", "b", "a"]}, ":3: the id 'a' is already that of row 1"),
        ({"id": ["a", None, "b"]}, ":2: has no id"),
        ({"label": [1.0, None, None]}, ":1: the label must be text or a whole number, not 1.0"),
        ({"split": ["train", "x", "test"]}, ":2: the split must be one of train, validation, test"),
        ({"Label": ["a", "b", "c"]}, ": unknown column 'Label'; did you mean 'label'?"),
    ],
)
def test_errors_of_rows(open_rows, columns: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError) as caught:
        open_rows({"word": ["x", "y", "z"], **columns})
    assert f"rows.parquet{expected}" in str(caught.value)


def test_rows_that_share_a_file_or_a_key_are_in_one_split(open_rows, tmp_path: Path) -> None:
    for name in "abcdefghij":
        (tmp_path / name).write_text(name)
    names = [name for name in "abcdefghij" for _ in range(3)]
    dataset = open_rows({"page": names})
    split_by = open_rows({"word": names}, split_by="word")
    for each in (dataset, split_by):
        groups = [set(each.split(name).ids) for name in SPLITS]
        assert [len(group) for group in groups] == [24, 3, 3]
        for group in groups:
            letters = {(int(row_id.rpartition(":")[2]) - 1) // 3 for row_id in group}
            assert len(group) == 3 * len(letters)


def test_files_that_cannot_be_used(open_rows, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for content, message in ((b"", "is not a readable Parquet file"), (b"PAR1", "is not a")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{path}: {message}"):
            Parquet(ParquetConfig(path=path), {"word": WORD}, 0)
    with pytest.raises(DataError, match="has no rows"):
        open_rows({"word": pyarrow.array([], pyarrow.string())})
    open_rows({"word": ["a"]})
    with pytest.raises(DataError, match="no column for page"):
        Parquet(ParquetConfig(path=path), {"page": PAGE}, 0)
    with pytest.raises(DataError, match=r"no\.parquet: cannot be read: No such file"):
        Parquet(ParquetConfig(path=tmp_path / "no.parquet"), {"word": WORD}, 0)
    twice = pyarrow.table([["a"], ["b"]], names=["word", "word"])
    parquet_library.write_table(twice, path)
    with pytest.raises(DataError, match="names the column 'word' 2 times"):
        Parquet(ParquetConfig(path=path), {"word": WORD}, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder has no \.parquet file"):
        Parquet(ParquetConfig(path=tmp_path / "empty"), {"word": WORD}, 0)


def test_a_damaged_page_is_an_error_that_names_the_file(open_rows, tmp_path: Path) -> None:
    dataset = open_rows({"page": [bytes(range(256)) * 40] * 9}, options={"use_dictionary": False})
    path = tmp_path / "rows.parquet"
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.parquet: is not a readable Parquet file"):
        train(dataset).items["page"][0]


def test_a_file_with_fewer_rows_than_it_says(open_rows, monkeypatch) -> None:
    items = train(open_rows({"page": [b"x"]}, **ALL)).items["page"]
    monkeypatch.setattr(parquet_file.ParquetRows, "batches", lambda self, group, column: iter(()))
    with pytest.raises(DataError, match=r"rows\.parquet: .*: it has fewer rows than it says"):
        items[0]


@pytest.mark.parametrize(("column", "word"), [("word", b"a"), ("id", b"\xff"), ("page", b"\xff")])
def test_text_that_is_not_utf8(open_rows, tmp_path: Path, column: str, word: bytes) -> None:
    binary = pyarrow.array([word])
    text = pyarrow.StringArray.from_buffers(1, binary.buffers()[1], binary.buffers()[2])
    if column == "word":
        assert list(train(open_rows({"word": text}, **ALL)).items["word"]) == ["A"]
    else:
        with pytest.raises(DataError, match=r"rows\.parquet: cannot be read: .*UTF"):
            open_rows({"word": ["a"], column: text}, **ALL)


def test_fingerprint_follows_the_file(open_rows) -> None:
    first = open_rows({"word": ["a", "b"]}).fingerprint()
    assert open_rows({"word": ["a", "bb"]}).fingerprint() != first
