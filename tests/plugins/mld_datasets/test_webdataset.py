"""The dataset `webdataset`: samples in shards, their columns, and what is an error."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_modalities import PAGE, WORD

from mld_core import SPLITS, DataError, Registry

library = pytest.importorskip("webdataset", reason="needs pip install 'mld-toolkit[webdataset]'")

from mld_datasets.webdataset import WebDataset, WebDatasetConfig  # noqa: E402

ALL = {"validation": 0.0, "test": 0.0}


def write_shard(path: Path, *files: tuple[str, bytes | str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def open_shards(path: Any, modalities: dict[str, Any] | None = None, **settings: Any) -> WebDataset:
    config = WebDatasetConfig(path=path, **settings)
    return WebDataset(config, modalities or {"txt": WORD}, 0)


def test_dataset_is_installed() -> None:
    assert Registry().dataset("webdataset") is WebDataset


def test_files_are_columns(tmp_path: Path) -> None:
    path = write_shard(
        tmp_path / "a.tar",
        ("__meta__/info.json", "not of a sample"),
        ("README", "no extension"),
        ("birds/1.txt", "wren"),
        ("birds/1.Seg.PNG", b"one"),
        ("birds/1.cls", "7\n"),
        ("birds/2.seg.png", b""),
        ("birds/2.txt", ""),
        ("birds/3.cls", "owl"),
    )
    dataset = open_shards(path, {"txt": WORD, "seg.png": PAGE}, **ALL)
    split = dataset.split("train")
    assert split.ids == ["a.tar:birds/1", "a.tar:birds/2", "a.tar:birds/3"]
    assert dataset.classes == ["7", "owl"]
    assert split.labels == [0, -1, 1]
    assert list(split.items["txt"]) == ["WREN", None, None]
    assert list(split.items["seg.png"]) == [(".png", b"one"), (".png", b""), None]
    assert split.present == {"txt": [True, False, False], "seg.png": [True, True, False]}


def test_the_class_may_also_be_a_modality(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", ("1.cls", "owl"), ("2.cls", "wren"))
    dataset = open_shards(path, {"cls": WORD}, **ALL)
    assert dataset.classes == ["owl", "wren"]
    assert list(dataset.split("train").items["cls"]) == ["OWL", "WREN"]


def test_keys_of_json_are_columns(tmp_path: Path) -> None:
    cells = [
        {"id": "x", "label": 3, "split": "train", "word": "a", "note": 1},
        {"id": "y", "label": "é", "split": "dev", "word": "", "page": "b.txt"},
        {"id": "z", "split": "train", "word": 1.5, "page": [1.0, 2.0]},
    ]
    (tmp_path / "b.txt").write_text("page b")
    files = [(f"{index}.json", json.dumps(row)) for index, row in enumerate(cells)]
    path = write_shard(tmp_path / "a.tar", *files)
    with pytest.warns(UserWarning, match=r"/a\.tar: unused column 'note'$"):
        dataset = open_shards(path, {"word": WORD, "page": PAGE})
    train, validation, _ = map(dataset.split, SPLITS)
    assert (train.ids, validation.ids) == (["x", "z"], ["y"])
    assert (train.labels, validation.labels) == ([0, -1], [1])
    assert list(train.items["word"]) == ["A", "1.5"]
    assert train.present == {"word": [True, True], "page": [False, True]}
    assert validation.items["word"][0] is None
    assert validation.items["page"][0] == (".txt", b"page b")
    assert train.items["page"][1][0] == ".npy"


def test_a_file_comes_before_a_key(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", ("1.json", '{"txt": "json"}'), ("1.txt", "file"))
    assert list(open_shards(path, **ALL).split("train").items["txt"]) == ["FILE"]


@pytest.mark.parametrize("pattern", ["s-{00..03}.tar", "", "s-0{0,1,2,3}.tar"])
def test_shards_of_the_library(tmp_path: Path, pattern: str) -> None:
    with library.ShardWriter(str(tmp_path / "s-%02d.tar"), maxcount=6, verbose=0) as writer:
        for row in range(20):
            writer.write({"__key__": f"k{row}", "txt": f"w{row}", "bin": bytes([row])})
    dataset = open_shards(tmp_path / pattern, {"txt": WORD, "bin": PAGE}, **ALL)
    split = pickle.loads(pickle.dumps(dataset)).split("train")
    assert split.ids == [f"s-0{row // 6}.tar:k{row}" for row in range(20)]
    for row in [*range(20), *np.random.default_rng(0).permutation(20).tolist()]:
        assert split.items["txt"][row] == f"W{row}"
        assert split.items["bin"][row] == (".bin", bytes([row]))


def test_shards_of_splits(tmp_path: Path) -> None:
    for name, count in (("train", 10), ("val", 4)):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "0.tar", *((f"{row}.txt", name) for row in range(count)))
    paths = {"train": tmp_path / "train", "validation": tmp_path / "val" / "{0..0}.tar"}
    dataset = open_shards(paths, test=0.2)
    assert [len(dataset.split(name).ids) for name in SPLITS] == [8, 4, 2]
    assert dataset.split("validation").ids == [f"val/0.tar:{row}" for row in range(4)]
    assert set(dataset.split("test").items["txt"]) == {"TRAIN"}


def test_little_is_in_memory(tmp_path: Path) -> None:
    files = [(f"{row}.bin", bytes(100_000)) for row in range(30)]
    dataset = open_shards(write_shard(tmp_path / "a.tar", *files), {"bin": PAGE}, **ALL)
    assert len(pickle.dumps(dataset)) < 1e5


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([("1.txt", "a"), ("1.TXT", "b")], "a.tar: sample '1' has two files .TXT"),
        ([("1.txt", "a"), ("2.txt", "b"), ("1.txt", "c")], "a.tar:3: the id 'a.tar:1' is already"),
        ([("1.txt", "a"), ("1.json", "{")], "a.tar:1: 1.json is not JSON: Expecting property"),
        ([("1.txt", "a"), ("1.json", "[]")], "a.tar:1: 1.json is not a JSON object"),
        ([("1.txt", "a"), ("1.json", b"\xff")], "a.tar:1: 1.json is not UTF-8 text"),
        ([("1.txt", "a"), ("1.json", '{"id": "\\ud800"}')], "a.tar:1: 1.json holds half a"),
        ([("1.txt", "a"), ("1.json", '{"label": [1]}')], "a.tar:1: the label must be text or a"),
        ([("1.jpg", "a")], "a.tar: no column for txt"),
        ([("txt", "a")], "a.tar: has no rows"),
    ],
)
def test_errors(tmp_path: Path, files: list[tuple[str, Any]], expected: str) -> None:
    path = write_shard(tmp_path / "a.tar", *files)
    with pytest.raises(DataError) as caught:
        open_shards(path, **ALL)
    assert expected in str(caught.value)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", ("1.txt", b"\xff"), ("2.txt", "\ufeffa"))
    items = open_shards(path, **ALL).split("train").items["txt"]
    with pytest.raises(ValueError, match=r"a\.tar/1\.txt is not UTF-8 text"):
        items[0]
    assert items[1] == "A"
    path = write_shard(tmp_path / "b.tar", ("1.txt", "a"), ("1.cls", b"\xff"))
    with pytest.raises(DataError, match=r"b\.tar: cannot be read: b\.tar/1\.cls is not UTF-8"):
        open_shards(path, **ALL)


def test_files_that_are_no_shards(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", ("1.txt", "a" * 2000), ("2.txt", "b" * 2000))
    content = path.read_bytes()
    for damaged in (gzip.compress(content), content[:2700], content[:3600], b"", b"no tar"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.tar: is not a readable \.tar file"):
            open_shards(path)
    with pytest.raises(DataError, match=r"b-0\.tar: cannot be read: No such file"):
        open_shards(tmp_path / "b-{0..1}.tar")
    with pytest.raises(DataError, match="braces are unbalanced"):
        open_shards(tmp_path / "b-{0..1.tar")


def test_fingerprint_follows_the_shards(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", ("1.txt", "a"))
    first = open_shards(path).fingerprint()
    assert open_shards(path).fingerprint() == first
    write_shard(path, ("1.txt", "b"))
    assert open_shards(path).fingerprint() != first
