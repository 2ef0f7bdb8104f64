from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mld.conformance import check_dataset
from mld_core import DataError
from mld_datasets.polymnist import Polymnist, PolymnistConfig

COLOURS = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


def make_dataset(folder, seed=0, columns=3, **settings) -> Polymnist:
    return Polymnist(PolymnistConfig(folder=folder, columns=columns, **settings), {}, seed)


def error_message(folder, **settings) -> str:
    with pytest.raises(DataError) as caught:
        make_dataset(folder, **settings).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


@pytest.fixture
def folder(write_mnist):
    """MNIST, and three photos of one colour each."""
    folder = write_mnist()
    (folder / "polymnist_backgrounds").mkdir()
    for index, colour in enumerate(COLOURS):
        suffix = "png" if index else "JPEG"
        photo = Image.new("RGB", (60, 40), colour)
        photo.save(folder / "polymnist_backgrounds" / f"{index}.{suffix}", quality=100)
    (folder / "polymnist_backgrounds" / "README.md").write_text("no photo")
    return folder


def test_ink_inverts_the_photo(folder):
    dataset = make_dataset(folder)
    assert dataset.columns == {"m0": "image", "m1": "image", "m2": "image"}
    split = dataset.split("train")
    assert len(split.ids) == 220
    for row in range(20):
        digits = [int(name.rpartition("-")[2]) for name in split.ids[row].split()[1:]]
        assert len(set(digits)) == 3
        assert [digit % 10 for digit in digits] == [split.labels[row]] * 3
        for digit, colour, column in zip(digits, COLOURS, split.items.values(), strict=True):
            expected = 255 - np.array(colour) if digit >= 128 else np.array(colour)
            pixels = np.asarray(column[row]).astype(int)
            assert pixels.shape == (28, 28, 3)
            assert np.abs(pixels - expected).max() <= 2


def test_patches_cover_the_photo(folder):
    x = np.broadcast_to(np.arange(60, dtype=np.uint8), (40, 60))
    y = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None], (40, 60))
    photo = Image.fromarray(np.stack([x, y, y], axis=2))
    photo.save(folder / "polymnist_backgrounds" / "1.png")
    column = make_dataset(folder).split("train").items["m1"]
    corners = np.array([np.asarray(image)[0, 0, :2].astype(int) for image in column])
    corners = np.where(corners > 60, 255 - corners, corners)
    assert corners.min(0).tolist() == [0, 0]
    assert corners.max(0).tolist() == [32, 12]


def test_seed_and_limits(folder):
    rows = make_dataset(folder).split("train")
    assert make_dataset(folder).split("train").ids == rows.ids
    assert make_dataset(folder, seed=1).split("train").ids != rows.ids
    few = make_dataset(folder, train=7).split("train")
    assert few.ids == rows.ids[:7]
    for index in range(7):
        first, again = (np.asarray(split.items["m2"][index]) for split in (few, rows))
        assert (first == again).all()


def test_splits_share_no_digit(folder):
    dataset = make_dataset(folder, columns=2)
    images = [
        {image for row in dataset.split(name).ids for image in row.split()[1:]}
        for name in ("train", "validation", "test")
    ]
    assert [len(split) for split in images] == [220, 20, 60]
    assert len(set.union(*images)) == 300


def test_too_few_photos(folder, write_mnist):
    message = error_message(folder, columns=5)
    assert message.startswith(
        "FOLDER: FOLDER/polymnist_backgrounds has 3 photos, but columns is 5; "
    )


def test_missing_photos(write_mnist):
    message = error_message(write_mnist())
    assert message.startswith("FOLDER: contains no background photos; expected as many .jpg")


@pytest.mark.parametrize("size", [0, 20, 60])
def test_truncated_photo_is_named(folder, size):
    path = folder / "polymnist_backgrounds" / "1.png"
    path.write_bytes(path.read_bytes()[:size])
    assert error_message(folder).startswith(
        "FOLDER/polymnist_backgrounds/1.png: cannot be read, trunc"
    )


def test_photo_smaller_than_a_digit(folder):
    Image.new("RGB", (60, 27)).save(folder / "polymnist_backgrounds" / "1.png")
    assert error_message(folder).endswith("1.png: has 27 x 60 pixels, but a digit has 28 x 28")


def test_fingerprint_depends_on_file_contents(folder):
    before = make_dataset(folder).fingerprint()
    Image.new("RGB", (60, 50)).save(folder / "polymnist_backgrounds" / "1.png")
    assert make_dataset(folder).fingerprint() != before


@pytest.mark.usefixtures("warm_checks")
def test_contract(folder):
    records = check_dataset("polymnist", {"folder": folder, "columns": 2})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    dataset = make_dataset(real_data, columns=5)
    assert len(dataset.split("train").ids) == 55000
    test = dataset.split("test")
    assert len(test.ids) == 10000
    assert {test.items[column][9].size for column in dataset.columns} == {(28, 28)}
