from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mld.conformance import check_dataset
from mld_core import DataError
from mld_datasets.pairing import draw_distinct
from mld_datasets.polymnist import Polymnist, PolymnistConfig

SHADES = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


def opened(folder, seed=0, columns=3, **settings) -> Polymnist:
    return Polymnist(PolymnistConfig(folder=folder, columns=columns, **settings), {}, seed)


def refusal(folder, **settings) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, **settings).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


@pytest.fixture
def folder(write_mnist):
    """MNIST, and three photos of one shade each."""
    folder = write_mnist()
    (folder / "polymnist_backgrounds").mkdir()
    for index, shade in enumerate(SHADES):
        suffix = "png" if index else "JPEG"
        photo = Image.new("RGB", (60, 40), shade)
        photo.save(folder / "polymnist_backgrounds" / f"{index}.{suffix}", quality=100)
    (folder / "polymnist_backgrounds" / "README.md").write_text("no photo")
    return folder


def test_columns_show_other_data_of_one_label():
    labels = np.array([0, 1, 0, 1, 0, 2, 1, 2])
    rows = draw_distinct(labels, 3, np.random.default_rng(0))
    assert rows.shape == (6, 3)
    assert all(len(set(row)) == 3 for row in rows.tolist())
    assert (labels[rows] == labels[rows[:, :1]]).all()
    assert all(sorted(column) == [0, 1, 2, 3, 4, 6] for column in rows.T.tolist())


def test_ink_inverts_the_photo_of_its_column(folder):
    dataset = opened(folder)
    assert dataset.columns == {"m0": "image", "m1": "image", "m2": "image"}
    split = dataset.split("train")
    assert len(split.ids) == 220
    for row in range(20):
        digits = [int(told.rpartition("-")[2]) for told in split.ids[row].split()[1:]]
        assert len(set(digits)) == 3
        assert [digit % 10 for digit in digits] == [split.labels[row]] * 3
        for digit, shade, column in zip(digits, SHADES, split.items.values(), strict=True):
            wanted = 255 - np.array(shade) if digit >= 128 else np.array(shade)
            pixels = np.asarray(column[row]).astype(int)
            assert pixels.shape == (28, 28, 3)
            assert np.abs(pixels - wanted).max() <= 2


def test_patches_come_from_all_over_the_photo(folder):
    x = np.broadcast_to(np.arange(60, dtype=np.uint8), (40, 60))
    y = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None], (40, 60))
    photo = Image.fromarray(np.stack([x, y, y], axis=2))
    photo.save(folder / "polymnist_backgrounds" / "1.png")
    column = opened(folder).split("train").items["m1"]
    corners = np.array([np.asarray(image)[0, 0, :2].astype(int) for image in column])
    corners = np.where(corners > 60, 255 - corners, corners)
    assert corners.min(0).tolist() == [0, 0]
    assert corners.max(0).tolist() == [32, 12]


def test_seed_draws_rows_and_limits_cut_them(folder):
    rows = opened(folder).split("train")
    assert opened(folder).split("train").ids == rows.ids
    assert opened(folder, seed=1).split("train").ids != rows.ids
    few = opened(folder, train=7).split("train")
    assert few.ids == rows.ids[:7]
    for index in range(7):
        first, again = (np.asarray(split.items["m2"][index]) for split in (few, rows))
        assert (first == again).all()


def test_splits_share_no_digit(folder):
    dataset = opened(folder, columns=2)
    seen = [
        {told for row in dataset.split(name).ids for told in row.split()[1:]}
        for name in ("train", "validation", "test")
    ]
    assert [len(told) for told in seen] == [220, 20, 60]
    assert len(set.union(*seen)) == 300


def test_too_few_photos_are_told(folder, write_mnist):
    told = refusal(folder, columns=5)
    assert told.startswith("FOLDER: FOLDER/polymnist_backgrounds has 3 photos, and columns is 5; ")


def test_missing_photos_are_told(write_mnist):
    told = refusal(write_mnist())
    assert told.startswith("FOLDER: holds no set of background photos; expected is as many .jpg")


@pytest.mark.parametrize("left", [0, 20, 60])
def test_a_truncated_photo_is_named(folder, left):
    path = folder / "polymnist_backgrounds" / "1.png"
    path.write_bytes(path.read_bytes()[:left])
    assert refusal(folder).startswith("FOLDER/polymnist_backgrounds/1.png: cannot be read, trunc")


def test_a_photo_smaller_than_a_digit_is_told(folder):
    Image.new("RGB", (60, 27)).save(folder / "polymnist_backgrounds" / "1.png")
    assert refusal(folder).endswith("1.png: has 27 x 60 pixels, fewer than a digit")


def test_the_fingerprint_follows_the_files(folder):
    before = opened(folder).fingerprint()
    Image.new("RGB", (60, 50)).save(folder / "polymnist_backgrounds" / "1.png")
    assert opened(folder).fingerprint() != before


def test_it_keeps_its_contract(folder):
    records = check_dataset("polymnist", {"folder": folder, "columns": 2})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    dataset = opened(real_data, columns=5)
    assert len(dataset.split("train").ids) == 55000
    test = dataset.split("test")
    assert len(test.ids) == 10000
    assert {test.items[column][9].size for column in dataset.columns} == {(28, 28)}
