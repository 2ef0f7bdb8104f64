from __future__ import annotations

import os
import sys
import types

import numpy as np
import pytest
from scipy.io import savemat

from mld.conformance import check_dataset
from mld_core import DataError
from mld_datasets.mnist_svhn import MnistSvhn, MnistSvhnConfig
from mld_datasets.pairing import pair_by_label


def opened(folder, seed=0, **settings) -> MnistSvhn:
    return MnistSvhn(MnistSvhnConfig(folder=folder, **settings), {}, seed)


def refusal(folder, **settings) -> str:
    """Why a folder is refused, without its name."""
    with pytest.raises(DataError) as caught:
        opened(folder, **settings).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


def coloured(count: int, photo_size: int = 3) -> dict[str, np.ndarray]:
    """SVHN-like arrays: image i is all i, its label i % 10, photos of some images each."""
    levels = np.arange(count, dtype=np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (count, 32, 32, 3))
    return {"images": pixels, "labels": levels % 10, "photo": np.arange(count) // photo_size}


@pytest.fixture
def parts(write_mnist):
    """A folder with MNIST and two parts of SVHN."""
    folder = write_mnist()
    (folder / "svhn").mkdir()
    np.savez(folder / "svhn" / "svhn_test_first200.npz", **coloured(200))
    np.savez(folder / "svhn" / "svhn_train_first30.npz", **coloured(30))
    return folder


@pytest.fixture
def whole(write_mnist):
    """A folder with MNIST, not packed, and SVHN's own files."""
    folder = write_mnist(suffix="")
    for part, count in (("train", 120), ("test", 40)):
        arrays = coloured(count)
        labels = np.where(arrays["labels"] == 0, 10, arrays["labels"])[:, None]
        pixels = np.moveaxis(arrays["images"], 0, -1)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": labels})
    return folder


def levels(column) -> list[int]:
    return [int(np.asarray(picture).flat[0]) for picture in column]


def test_pairs_share_a_label_and_take_the_first_of_the_larger_set():
    labels = np.array([0, 1, 0, 1, 0, 1, 2]), np.array([1, 0, 0, 1])
    pairs = pair_by_label(labels, 3, np.random.default_rng(0))
    assert pairs.shape == (12, 2)
    assert (labels[0][pairs[:, 0]] == labels[1][pairs[:, 1]]).all()
    assert np.bincount(pairs[:, 0]).tolist() == [3, 3, 3, 3]
    assert np.bincount(pairs[:, 1]).tolist() == [3, 3, 3, 3]
    assert pair_by_label([np.array([1]), np.array([2])], 3, np.random.default_rng(0)).size == 0


@pytest.mark.parametrize("name", ["parts", "whole"])
def test_rows_show_one_label_and_splits_share_no_image(name, request):
    dataset = opened(request.getfixturevalue(name), svhn_validation=20, svhn_test=21)
    seen = {"mnist": [], "svhn": []}
    for split in map(dataset.split, ("train", "validation", "test")):
        mnist, svhn = (levels(split.items[column]) for column in ("mnist", "svhn"))
        assert [level % 10 for level in mnist] == [level % 10 for level in svhn] == split.labels
        for column in seen:
            names = [told for row in split.ids for told in row.split() if told.startswith(column)]
            assert len(names) == len(split.ids)
            seen[column].append(set(names))
    for first, second, third in seen.values():
        assert not first & second | first & third | second & third


def test_each_image_of_training_is_in_so_many_rows(parts):
    split = opened(parts, pairings=4, svhn_validation=20, svhn_test=21).split("train")
    counts = np.bincount(levels(split.items["mnist"]))
    assert set(counts[counts > 0]) == {4}
    picture = split.items["svhn"][0]
    assert (picture.mode, picture.size) == ("RGB", (32, 32))
    assert (split.items["mnist"][0].mode, split.items["mnist"][0].size) == ("L", (28, 28))


def test_a_photo_is_never_cut(parts):
    dataset = opened(parts, svhn_validation=20, svhn_test=20)
    photos = {
        name: {int(told.rpartition("-")[2]) // 3 for told in ids_of(dataset, name, "first200")}
        for name in ("train", "validation", "test")
    }
    assert min(photos["test"]) * 3 == 180
    assert max(photos["train"]) < min(photos["validation"])
    assert max(photos["validation"]) < min(photos["test"])
    assert not ids_of(dataset, "test", "first30") + ids_of(dataset, "validation", "first30")
    assert ids_of(dataset, "train", "first30")


def ids_of(dataset, split, part) -> list[str]:
    return [told for row in dataset.split(split).ids for told in row.split() if part in told]


def test_seed_draws_pairs_and_limits_cut_them(parts):
    settings = {"svhn_validation": 20, "svhn_test": 21}
    rows = opened(parts, **settings).split("train").ids
    assert opened(parts, **settings).split("train").ids == rows
    assert opened(parts, seed=1, **settings).split("train").ids != rows
    few = opened(parts, train=7, test=3, **settings)
    assert few.split("train").ids == rows[:7]
    assert len(few.split("test").ids) == 3


def test_the_fingerprint_follows_what_the_files_hold(parts):
    before = opened(parts).fingerprint()
    assert opened(parts).fingerprint() == before
    images = parts / "svhn" / "svhn_train_first30.npz"
    os.utime(images, ns=(1, 1))  # as a copy may have
    assert opened(parts).fingerprint() == before
    np.savez(images, **coloured(31))
    assert opened(parts).fingerprint() != before


def test_a_missing_folder_is_told_with_source_and_layout(tmp_path):
    told = refusal(tmp_path / "no")
    assert told.startswith("FOLDER: is no folder that can be read; expected is MNIST/raw/ with ")
    assert "MNIST comes from http://yann.lecun.com/exdb/mnist, or set download: true" in told


def test_missing_files_are_told(parts):
    (parts / "mnist/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    told = refusal(parts)
    assert "raw lacks t10k-labels-idx1-ubyte; expected is MNIST/raw/" in told
    assert told.endswith("or set download: true")


def test_missing_svhn_is_told(write_mnist):
    folder = write_mnist()
    told = refusal(folder)
    assert told.startswith("FOLDER: holds no SVHN; expected is train_32x32.mat and test_32x32.mat")
    assert "SVHN comes from http://ufldl.stanford.edu/housenumbers" in told


def test_half_of_the_whole_data_is_told(whole):
    (whole / "test_32x32.mat").unlink()
    assert "FOLDER/train_32x32.mat is there without the other .mat file" in refusal(whole)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("parts", "mnist/MNIST/raw/train-images-idx3-ubyte.gz"),
        ("parts", "mnist/MNIST/raw/train-labels-idx1-ubyte.gz"),
        ("parts", "svhn/svhn_test_first200.npz"),
        ("whole", "mnist/MNIST/raw/train-images-idx3-ubyte"),
        ("whole", "train_32x32.mat"),
    ],
)
@pytest.mark.parametrize("left", [0, 2, 40, -9])
def test_a_truncated_file_is_named(name, file, left, request):
    folder = request.getfixturevalue(name)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:left])
    assert refusal(folder, svhn_validation=20, svhn_test=21).startswith(f"FOLDER/{file}: ")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"images": np.zeros((200, 32, 32), np.uint8)}, "coloured, and are uint8 of shape (200,"),
        ({"images": np.zeros((200, 32, 32, 3))}, "coloured, and are float64 of shape (200,"),
        ({"labels": np.zeros(3, int)}, "200 pictures, but labels of shape (3,)"),
        ({"labels": np.full(200, 10)}, "entry 0 has label 10, and labels are 0 to 9"),
        ({"labels": np.r_[np.zeros(3), 3.5, np.zeros(196)]}, "entry 3 has label 3.5, and labels"),
        ({"labels": np.full(200, np.nan)}, "entry 0 has label nan, and labels are 0 to 9"),
        ({"labels": np.zeros(200)}, "labels must be whole numbers, and are float64"),
        ({"photo": np.arange(200) % 50}, "the images of photo 0 lie apart, and would get into "),
        ({"photo": np.zeros(3, int)}, "200 images, but photo of shape (3,)"),
        ({"photo": np.zeros(200, int)}, "nothing is left for training after svhn_validation: 20"),
    ],
)
def test_arrays_that_do_not_fit_are_told(parts, changed, told):
    np.savez(parts / "svhn" / "svhn_test_first200.npz", **{**coloured(200), **changed})
    assert told in refusal(parts, svhn_validation=20, svhn_test=21)


def test_one_array_by_the_name_of_several_is_told(parts):
    with open(parts / "svhn" / "svhn_test_first200.npz", "wb") as file:
        np.save(file, coloured(200)["images"])
    assert "holds one array, and not several by name" in refusal(parts)


def test_parts_that_are_all_for_training_are_told(parts):
    (parts / "svhn" / "svhn_test_first200.npz").unlink()
    told = refusal(parts)
    assert "its parts (svhn_train_first30.npz) are for training alone, by their names" in told


def test_a_part_is_for_training_alone_by_a_word_of_its_name(parts):
    home = parts / "svhn"
    (home / "svhn_test_first200.npz").rename(home / "svhn_constrained.npz")
    assert len(opened(parts, svhn_validation=20, svhn_test=21).split("test").ids) > 10


def test_an_array_that_lacks_is_told(parts):
    np.savez(parts / "svhn" / "svhn_test_first200.npz", images=coloured(200)["images"])
    assert "lacks the array labels (arrays here: images)" in refusal(parts)


@pytest.fixture
def torchvision_with(monkeypatch):
    """Puts classes in the place of torchvision's datasets."""

    def torchvision_with(**classes):
        module = types.SimpleNamespace(**classes)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", module)

    return torchvision_with


def test_a_download_lands_in_the_folder(parts, torchvision_with, capsys):
    import shutil

    def fetch(folder, download):
        print("fetching")
        shutil.copytree(parts / "mnist" / "MNIST", folder / "MNIST")

    target = parts / "new"
    shutil.copytree(parts / "svhn", target / "svhn")
    torchvision_with(MNIST=fetch)
    dataset = opened(target, download=True, svhn_validation=20, svhn_test=21)
    assert len(dataset.split("train").ids) > 0
    assert sorted(path.name for path in target.iterdir()) == ["mnist", "svhn"]
    assert capsys.readouterr() == ("", "fetching\n")


def test_a_download_adds_only_what_lacks(parts, torchvision_with):
    raw = parts / "mnist/MNIST/raw"
    names = sorted(path.name for path in raw.iterdir())
    lost = raw / "t10k-labels-idx1-ubyte.gz"
    content = lost.read_bytes()
    lost.unlink()

    def fetch(folder, download):
        (folder / "MNIST" / "raw").mkdir(parents=True)
        for name in names:
            (folder / "MNIST" / "raw" / name).write_bytes(content)

    torchvision_with(MNIST=fetch)
    dataset = opened(parts, download=True, svhn_validation=20, svhn_test=21)
    assert len(dataset.split("test").ids) > 10
    assert sorted(path.name for path in raw.iterdir()) == names


def test_a_failed_download_is_told_and_leaves_nothing(write_mnist, torchvision_with):
    def fetch(folder, split, download):
        (folder / f"{split}_32x32.mat").write_bytes(b"half")
        raise OSError("no route to host")

    folder = write_mnist()
    torchvision_with(SVHN=fetch)
    told = refusal(folder, download=True)
    assert told.startswith("FOLDER: SVHN could not be downloaded into it: no route to host; expect")
    assert [path.name for path in folder.iterdir()] == ["mnist"]


def test_it_keeps_its_contract(parts):
    config = {"folder": parts, "svhn_validation": 20, "svhn_test": 21}
    records = check_dataset("mnist-svhn", config, {})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    dataset = opened(real_data, pairings=2)
    train, validation, test = map(dataset.split, ("train", "validation", "test"))
    assert len(train.ids) > 2 * 8000
    assert [len(validation.ids) > 400, len(test.ids) > 900] == [True, True]
    assert min(np.bincount(test.labels, minlength=10)) > 50
