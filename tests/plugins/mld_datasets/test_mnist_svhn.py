from __future__ import annotations

import gzip
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mld.conformance import check_dataset
from mld_core import DataError
from mld_datasets import download
from mld_datasets.mnist_svhn import MnistSvhn, MnistSvhnConfig


def make_dataset(folder, seed=0, **settings) -> MnistSvhn:
    return MnistSvhn(MnistSvhnConfig(folder=folder, **settings), {}, seed)


def error_message(folder, **settings) -> str:
    """The error about a folder, without its name."""
    with pytest.raises(DataError) as caught:
        make_dataset(folder, **settings).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


def svhn_arrays(count: int, photo_size: int = 3) -> dict[str, np.ndarray]:
    """Arrays like SVHN's: image i has level i and label i % 10; `photo_size` images per photo."""
    levels = np.arange(count, dtype=np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (count, 32, 32, 3))
    return {"images": pixels, "labels": levels % 10, "photo": np.arange(count) // photo_size}


@pytest.fixture
def parts(write_mnist):
    """A folder with MNIST and two .npz parts of SVHN."""
    folder = write_mnist()
    (folder / "svhn").mkdir()
    np.savez(folder / "svhn" / "svhn_test_first200.npz", **svhn_arrays(200))
    np.savez(folder / "svhn" / "svhn_train_first30.npz", **svhn_arrays(30))
    return folder


@pytest.fixture
def mat_files(write_mnist):
    """A folder with MNIST, uncompressed, and SVHN's .mat files."""
    folder = write_mnist(suffix="")
    for part, count in (("train", 120), ("test", 40)):
        arrays = svhn_arrays(count)
        labels = np.where(arrays["labels"] == 0, 10, arrays["labels"])[:, None]
        pixels = np.moveaxis(arrays["images"], 0, -1)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": labels})
    return folder


def levels(column) -> list[int]:
    return [int(np.asarray(image).flat[0]) for image in column]


@pytest.mark.parametrize("name", ["parts", "mat_files"])
def test_rows_share_a_label_and_splits_no_image(name, request):
    dataset = make_dataset(request.getfixturevalue(name), svhn_validation=20, svhn_test=21)
    seen = {"mnist": [], "svhn": []}
    for split in map(dataset.split, ("train", "validation", "test")):
        mnist, svhn = (levels(split.items[column]) for column in ("mnist", "svhn"))
        assert [level % 10 for level in mnist] == [level % 10 for level in svhn] == split.labels
        for column in seen:
            names = [name for row in split.ids for name in row.split() if name.startswith(column)]
            assert len(names) == len(split.ids)
            seen[column].append(set(names))
    for first, second, third in seen.values():
        assert not first & second | first & third | second & third


def test_training_image_is_in_pairings_rows(parts):
    split = make_dataset(parts, pairings=4, svhn_validation=20, svhn_test=21).split("train")
    counts = np.bincount(levels(split.items["mnist"]))
    assert set(counts[counts > 0]) == {4}
    image = split.items["svhn"][0]
    assert (image.mode, image.size) == ("RGB", (32, 32))
    assert (split.items["mnist"][0].mode, split.items["mnist"][0].size) == ("L", (28, 28))


def test_photos_are_not_divided(parts):
    dataset = make_dataset(parts, svhn_validation=20, svhn_test=20)
    photos = {
        name: {
            int(image.rpartition("-")[2]) // 3 for image in image_names(dataset, name, "first200")
        }
        for name in ("train", "validation", "test")
    }
    assert min(photos["test"]) * 3 == 180
    assert max(photos["train"]) < min(photos["validation"])
    assert max(photos["validation"]) < min(photos["test"])
    assert not image_names(dataset, "test", "first30") + image_names(
        dataset, "validation", "first30"
    )
    assert image_names(dataset, "train", "first30")


def image_names(dataset, split, part) -> list[str]:
    return [name for row in dataset.split(split).ids for name in row.split() if part in name]


def test_seed_and_limits(parts):
    settings = {"svhn_validation": 20, "svhn_test": 21}
    rows = make_dataset(parts, **settings).split("train").ids
    assert make_dataset(parts, **settings).split("train").ids == rows
    assert make_dataset(parts, seed=1, **settings).split("train").ids != rows
    few = make_dataset(parts, train=7, test=3, **settings)
    assert few.split("train").ids == rows[:7]
    assert len(few.split("test").ids) == 3


def test_fingerprint_depends_on_file_contents(parts):
    before = make_dataset(parts).fingerprint()
    assert make_dataset(parts).fingerprint() == before
    images = parts / "svhn" / "svhn_train_first30.npz"
    os.utime(images, ns=(1, 1))  # like a copy
    assert make_dataset(parts).fingerprint() == before
    np.savez(images, **svhn_arrays(31))
    assert make_dataset(parts).fingerprint() != before


def test_missing_folder_error_has_source_and_layout(tmp_path):
    message = error_message(tmp_path / "no")
    assert message.startswith("FOLDER: is not a readable folder; expected MNIST/raw/ with ")
    assert "Get MNIST from http://yann.lecun.com/exdb/mnist, or set download: true" in message


def test_missing_mnist_files(parts):
    (parts / "mnist/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    message = error_message(parts)
    assert "raw lacks t10k-labels-idx1-ubyte; expected MNIST/raw/" in message
    assert message.endswith("or set download: true")


def test_missing_svhn(write_mnist):
    folder = write_mnist()
    message = error_message(folder)
    assert message.startswith(
        "FOLDER: contains no SVHN; expected train_32x32.mat and test_32x32.mat"
    )
    assert "Get SVHN from http://ufldl.stanford.edu/housenumbers" in message


def test_missing_mat_file(mat_files):
    (mat_files / "test_32x32.mat").unlink()
    assert "FOLDER/train_32x32.mat is there without the other .mat file" in error_message(mat_files)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("parts", "mnist/MNIST/raw/train-images-idx3-ubyte.gz"),
        ("parts", "mnist/MNIST/raw/train-labels-idx1-ubyte.gz"),
        ("parts", "svhn/svhn_test_first200.npz"),
        ("mat_files", "mnist/MNIST/raw/train-images-idx3-ubyte"),
        ("mat_files", "train_32x32.mat"),
    ],
)
@pytest.mark.parametrize("size", [0, 2, 40, -9])
def test_truncated_file_is_named(name, file, size, request):
    folder = request.getfixturevalue(name)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:size])
    assert error_message(folder, svhn_validation=20, svhn_test=21).startswith(f"FOLDER/{file}: ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"images": np.zeros((200, 32, 32), np.uint8)},
            "(n, height, width, 3), not uint8 of shape (200, 32, 32)",
        ),
        (
            {"images": np.zeros((200, 32, 32, 3))},
            "images must be uint8 of shape (n, height, width, 3), not float64 of",
        ),
        ({"labels": np.zeros(3, int)}, "200 images, but labels of shape (3,)"),
        ({"labels": np.full(200, 10)}, "entry 0 has label 10; labels must be 0 to 9"),
        ({"labels": np.r_[np.zeros(3), 3.5, np.zeros(196)]}, "entry 3 has label 3.5; labels"),
        ({"labels": np.full(200, np.nan)}, "entry 0 has label nan; labels must be 0 to 9"),
        ({"labels": np.zeros(200)}, "labels must be whole numbers, not float64"),
        (
            {"photo": np.arange(200) % 50},
            "the images of photo 0 are not consecutive and would be divided",
        ),
        ({"photo": np.zeros(3, int)}, "200 images, but photo of shape (3,)"),
        ({"photo": np.zeros(200, int)}, "nothing is left for training after svhn_validation: 20"),
    ],
)
def test_invalid_arrays(parts, changes, expected):
    np.savez(parts / "svhn" / "svhn_test_first200.npz", **{**svhn_arrays(200), **changes})
    assert expected in error_message(parts, svhn_validation=20, svhn_test=21)


def test_single_array_as_npz(parts):
    with open(parts / "svhn" / "svhn_test_first200.npz", "wb") as file:
        np.save(file, svhn_arrays(200)["images"])
    assert "contains a single array, not named arrays" in error_message(parts)


def test_all_parts_are_training_only(parts):
    (parts / "svhn" / "svhn_test_first200.npz").unlink()
    message = error_message(parts)
    assert "its parts (svhn_train_first30.npz) are for training only, by their names" in message


def test_train_within_a_word_is_not_training_only(parts):
    folder = parts / "svhn"
    (folder / "svhn_test_first200.npz").rename(folder / "svhn_constrained.npz")
    assert len(make_dataset(parts, svhn_validation=20, svhn_test=21).split("test").ids) > 10


def test_missing_array(parts):
    np.savez(parts / "svhn" / "svhn_test_first200.npz", images=svhn_arrays(200)["images"])
    assert "lacks the array labels (arrays here: images)" in error_message(parts)


@pytest.fixture
def fake_torchvision(monkeypatch):
    """Replaces torchvision's datasets by classes."""

    def fake_torchvision(**classes):
        module = types.SimpleNamespace(**classes)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", module)

    return fake_torchvision


def test_download_into_the_folder(parts, fake_torchvision, capsys):
    import shutil

    def fetch(folder, download):
        print("fetching")
        shutil.copytree(parts / "mnist" / "MNIST", folder / "MNIST")

    target = parts / "new"
    shutil.copytree(parts / "svhn", target / "svhn")
    fake_torchvision(MNIST=fetch)
    dataset = make_dataset(target, download=True, svhn_validation=20, svhn_test=21)
    assert len(dataset.split("train").ids) > 0
    assert sorted(path.name for path in target.iterdir()) == ["mnist", "svhn"]
    assert capsys.readouterr() == ("", "fetching\n")


def test_download_adds_missing_files_only(parts, fake_torchvision):
    raw = parts / "mnist/MNIST/raw"
    names = sorted(path.name for path in raw.iterdir())
    missing = raw / "t10k-labels-idx1-ubyte.gz"
    content = missing.read_bytes()
    missing.unlink()

    def fetch(folder, download):
        (folder / "MNIST" / "raw").mkdir(parents=True)
        for name in names:
            (folder / "MNIST" / "raw" / name).write_bytes(content)

    fake_torchvision(MNIST=fetch)
    dataset = make_dataset(parts, download=True, svhn_validation=20, svhn_test=21)
    assert len(dataset.split("test").ids) > 10
    assert sorted(path.name for path in raw.iterdir()) == names


def test_failed_download_leaves_nothing(write_mnist, fake_torchvision):
    def fetch(folder, split, download):
        (folder / f"{split}_32x32.mat").write_bytes(b"half")
        raise OSError("no route to host")

    folder = write_mnist()
    fake_torchvision(SVHN=fetch)
    message = error_message(folder, download=True)
    assert message.startswith(
        "FOLDER: SVHN could not be downloaded into it: no route to host; expected train_32x32.mat"
    )
    assert [path.name for path in folder.iterdir()] == ["mnist"]


@pytest.mark.filterwarnings("ignore:the image is almost black")
@pytest.mark.usefixtures("warm_checks")
def test_contract(parts):
    config = {"folder": parts, "svhn_validation": 20, "svhn_test": 21}
    records = check_dataset("mnist-svhn", config, {})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    dataset = make_dataset(real_data, pairings=2)
    train, validation, test = map(dataset.split, ("train", "validation", "test"))
    assert len(train.ids) > 2 * 8000
    assert [len(validation.ids) > 400, len(test.ids) > 900] == [True, True]
    assert min(np.bincount(test.labels, minlength=10)) > 50


def test_archives_that_expand_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(download, "MAX_BYTES", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros(20_000, np.uint8))
    with pytest.raises(DataError, match=r"bomb\.npz: .*more than 10,000 bytes"):
        download.read_npz(tmp_path / "bomb.npz", ["images"])
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        file.write(bytes(20_000))
    with pytest.raises(DataError, match=r"bomb\.gz: .*more than 10,000 bytes"):
        download.read_content(tmp_path / "bomb.gz")
    np.savez(tmp_path / "pickle.npz", images=np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"pickle\.npz"):
        download.read_npz(tmp_path / "pickle.npz", ["images"])
