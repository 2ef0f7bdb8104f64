"""The dataset `hugging-face`: splits, classes and cells of datasets on disk and on the Hub."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from table_modalities import PAGE, WORD

from mld_core import SPLITS, DataError, Registry

datasets = pytest.importorskip("datasets", reason="needs pip install 'mld-toolkit[hugging-face]'")

from mld_datasets.hugging_face import HuggingFace, HuggingFaceConfig  # noqa: E402

MODALITIES = {"word": WORD, "page": PAGE}


@pytest.fixture(autouse=True)
def _no_progress() -> None:
    datasets.disable_progress_bars()


def open_folder(path: Path, **settings: Any) -> HuggingFace:
    loaded = datasets.load_from_disk(str(path))
    columns = [*(loaded if isinstance(loaded, datasets.Dataset) else loaded["train"]).column_names]
    used = {name: modality for name, modality in MODALITIES.items() if name in columns}
    return HuggingFace(HuggingFaceConfig(path=path, **settings), used, 0)


def words(count: int, prefix: str = "w") -> datasets.Dataset:
    return datasets.Dataset.from_dict({"word": [f"{prefix}{row}" for row in range(count)]})


def test_dataset_is_installed() -> None:
    assert Registry().dataset("hugging-face") is HuggingFace


def test_splits_that_are_missing_are_drawn_from_the_training_rows(tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": words(20), "test": words(5, "t"), "extra": words(3)})
    splits.save_to_disk(tmp_path / "rows")
    with pytest.warns(UserWarning, match="/rows: unused split extra$"):
        dataset = open_folder(tmp_path / "rows", validation=0.2)
    ids = {name: dataset.split(name).ids for name in SPLITS}
    assert ids["test"] == [f"test:{row}" for row in range(1, 6)]
    assert [len(ids[name]) for name in SPLITS] == [16, 4, 5]
    drawn = [*ids["train"], *ids["validation"]]
    assert sorted(drawn) == sorted(f"train:{row}" for row in range(1, 21))
    assert list(dataset.split("test").items["word"]) == [f"T{row}" for row in range(5)]


def test_all_splits_of_a_dict(tmp_path: Path) -> None:
    rows = {"train": words(3), "valid": words(2, "v"), "test": words(1, "t")}
    datasets.DatasetDict(rows).save_to_disk(tmp_path / "rows")
    dataset = open_folder(tmp_path / "rows")
    assert [list(dataset.split(name).items["word"]) for name in SPLITS] == [
        ["W0", "W1", "W2"],
        ["V0", "V1"],
        ["T0"],
    ]
    for settings in ({"test": 0.2}, {"split_by": "word"}):
        message = (
            f"divided into train, validation, test, beside which {min(settings)} cannot be set"
        )
        with pytest.raises(DataError, match=message):
            open_folder(tmp_path / "rows", **settings)


def test_a_column_of_splits(tmp_path: Path) -> None:
    columns = {"word": ["a", "b"], "split": ["train", "test"]}
    rows = datasets.Dataset.from_dict(columns)
    rows.save_to_disk(tmp_path / "one")
    dataset = open_folder(tmp_path / "one")
    assert [dataset.split(name).ids for name in SPLITS] == [["one:1"], [], ["one:2"]]
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "many")
    with pytest.warns(UserWarning, match="its column 'split' is not used"):
        dataset = open_folder(tmp_path / "many", validation=0.0, test=0.0)
    assert dataset.split("train").ids == ["train:1", "train:2"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"unsupervised": 3}, r"has no split train, .*, dev \(splits: unsupervised\)"),
        ({"test": 3}, "has no training rows"),
        ({"train": 0}, "(has no rows|cannot be loaded by the library datasets)"),
    ],
)
def test_no_rows_to_train_on(tmp_path: Path, splits: dict[str, int], message: str) -> None:
    sets = {name: words(count) for name, count in splits.items()}
    datasets.DatasetDict(sets).save_to_disk(tmp_path / "rows")
    with pytest.raises(DataError, match=f"/rows: {message}"):
        HuggingFace(HuggingFaceConfig(path=tmp_path / "rows"), {"word": WORD}, 0)


def test_columns_of_splits_differ(tmp_path: Path) -> None:
    other = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict({"train": words(3), "test": other}).save_to_disk(tmp_path / "rows")
    with pytest.raises(DataError, match=r"test: has no column 'word', unlike .*/rows/train"):
        open_folder(tmp_path / "rows")


def test_names_of_classes(tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["wren", "robin", "owl"])
    rows = datasets.Dataset.from_dict(
        {"word": [0, 1, None, -1], "label": [1, 0, -1, None]},
        datasets.Features({"word": label, "label": label}),
    )
    rows.save_to_disk(tmp_path / "rows")
    dataset = open_folder(tmp_path / "rows", validation=0.0, test=0.0)
    split = dataset.split("train")
    assert dataset.classes == ["robin", "wren"]
    assert split.labels == [0, 1, -1, -1]
    assert list(split.items["word"]) == ["WREN", "ROBIN", None, None]
    assert split.present == {"word": [True, True, False, False]}


def test_files_are_not_decoded(tmp_path: Path) -> None:
    cells = [{"bytes": b"no image", "path": "a.png"}, None, {"bytes": b"x", "path": None}]
    for feature in (datasets.Image(), datasets.Audio()):
        rows = datasets.Dataset.from_dict({"page": cells}).cast_column("page", feature)
        path = tmp_path / type(feature).__name__
        rows.save_to_disk(path)
        split = open_folder(path, validation=0.0, test=0.0).split("train")
        assert list(split.items["page"]) == [(".png", b"no image"), None, ("", b"x")]
        assert split.present == {"page": [True, False, True]}


def test_arrays_and_shuffled_rows(tmp_path: Path) -> None:
    features = datasets.Features({"page": datasets.Array2D((1, 2), "float32")})
    rows = datasets.Dataset.from_dict({"page": [[[row, row]] for row in range(9)]}, features)
    rows.shuffle(seed=0).select([3, 1]).save_to_disk(tmp_path / "rows")
    dataset = open_folder(tmp_path / "rows", validation=0.0, test=0.0)
    items = pickle.loads(pickle.dumps(dataset)).split("train").items["page"]
    assert [suffix for suffix, _ in items] == [".npy", ".npy"]
    assert len(pickle.dumps(dataset)) < 1e5


def test_rows_stay_in_the_file(tmp_path: Path) -> None:
    page = [bytes([row]) * 100_000 for row in range(30)]
    datasets.Dataset.from_dict({"page": page}).save_to_disk(tmp_path / "rows")
    dataset = open_folder(tmp_path / "rows", validation=0.0, test=0.0)
    assert len(pickle.dumps(dataset)) < 1e5
    assert [item[1] for item in dataset.split("train").items["page"]] == page


def test_fingerprint_follows_files(tmp_path: Path) -> None:
    words(3).save_to_disk(tmp_path / "rows")
    first = open_folder(tmp_path / "rows").fingerprint()
    assert open_folder(tmp_path / "rows").fingerprint() == first
    for name in ("dataset_info.json", "data-00000-of-00001.arrow"):
        path = tmp_path / "rows" / name
        content = path.read_bytes()
        path.write_bytes(content + b"\n" * (name[-4:] == "json"))
        assert open_folder(tmp_path / "rows").fingerprint() != first
        first = open_folder(tmp_path / "rows").fingerprint()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be loaded by the library datasets: Directory"):
        HuggingFace(HuggingFaceConfig(path=tmp_path), {"word": WORD}, 0)
    words(3).save_to_disk(tmp_path / "rows")
    (tmp_path / "rows" / "data-00000-of-00001.arrow").write_bytes(b"no Arrow file")
    with pytest.raises(DataError, match="/rows: cannot be loaded by the library datasets"):
        HuggingFace(HuggingFaceConfig(path=tmp_path / "rows"), {"word": WORD}, 0)


@pytest.mark.parametrize(("column", "is_read"), [("page", True), ("label", False)])
def test_damaged_offsets(tmp_path: Path, column: str, is_read: bool) -> None:
    """Bytes outside of the file are not read."""
    columns = {"page": [b"12345"] * 30, "label": ["1234567"] * 30}
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "rows")
    path = tmp_path / "rows" / "data-00000-of-00001.arrow"
    offsets = np.arange(31, dtype=np.int32) * len(columns[column][0])
    damaged = offsets.copy()
    damaged[3] = 1 << 30
    assert path.read_bytes().count(offsets.tobytes()) == 1
    path.write_bytes(path.read_bytes().replace(offsets.tobytes(), damaged.tobytes()))
    if is_read:
        items = open_folder(tmp_path / "rows", validation=0.0, test=0.0).split("train").items
        assert items["page"][0] == ("", b"12345")
        for row in (2, 3):
            with pytest.raises(ValueError, match="offset"):
                items["page"][row]
    else:
        with pytest.raises(DataError, match=r"/rows: cannot be read: .*offset"):
            open_folder(tmp_path / "rows")


def test_data_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words(20).save_to_disk(tmp_path / "cache")
    calls = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return datasets.DatasetDict({"train": datasets.load_from_disk(str(tmp_path / "cache"))})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = HuggingFaceConfig(hub="birds/words", subset="small", revision="v1")
    dataset = HuggingFace(config, {"word": WORD}, 0)
    assert calls == [(("birds/words", "small"), {"revision": "v1"})]
    assert [len(dataset.split(name).ids) for name in SPLITS] == [16, 2, 2]
    assert "train:1" in [row_id for name in SPLITS for row_id in dataset.split(name).ids]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"^birds/words: cannot .* Couldn't reach"):
        HuggingFace(config, {"word": WORD}, 0)


@pytest.mark.parametrize(
    "settings", [{}, {"path": "rows", "hub": "a/b"}, {"path": "rows", "revision": "main"}]
)
def test_settings_that_exclude_each_other(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HuggingFaceConfig(**settings)
