"""The conformance kit, one test per check, and tests of what is specific to this modality."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from mld_mnist_strokes import MnistStrokes, MnistStrokesConfig
from mld_trajectory import Trajectory, TrajectoryConfig

from mld.conformance import conformance

test_conformance = conformance("trajectory", latent_dim=16)

# A line of length 10 to the right, a pen lift over 10, and a line of 10 downwards.
RAW = np.array([[0, 4, 0], [10, 4, 1], [20, 4, 0], [20, 14, 1]])


@pytest.fixture
def modality() -> Trajectory:
    return Trajectory(TrajectoryConfig(points=31, size=20))


def test_resampling_at_equal_steps_keeps_the_pen(modality: Trajectory) -> None:
    x = modality.preprocess(RAW)
    assert x.shape == (31, 3)
    steps = x[:, :2].diff(dim=0).norm(dim=1)
    assert steps.numpy() == pytest.approx(np.full(30, 0.1), abs=1e-6)
    assert x[1:, 2].tolist() == [1.0] * 10 + [-1.0] * 10 + [1.0] * 10
    assert x[0, 2] == -1


def test_written_item_reads_back(modality: Trajectory, tmp_path: Path) -> None:
    x = modality.preprocess(RAW)
    reread = modality.preprocess(modality.read(modality.write(x, tmp_path / "line")))
    assert (reread - x).abs().max() < 1e-4


def test_preview_has_a_gap_where_the_pen_is_lifted(modality: Trajectory, tmp_path: Path) -> None:
    (path,) = modality.preview(modality.preprocess(RAW), tmp_path / "line")
    assert path.read_text().count("M") == 1 + 10
    assert path.read_text().count("L") == 20


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((0, 3)), "expected x, y and pen"),
        (np.zeros((4, 2)), "expected x, y and pen"),
        (RAW * 2, "outside 0..size, with size = 20"),
        (np.full((4, 3), np.nan), "outside 0..size"),
    ],
)
def test_invalid_trajectory(modality: Trajectory, raw: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        modality.preprocess(raw)


def test_single_point(modality: Trajectory) -> None:
    assert modality.preprocess(np.array([[3.0, 4.0, 0.0]])).isfinite().all()


def test_mnist_images_and_strokes_match() -> None:
    folder = os.environ.get("MLD_TEST_DATA")
    if not folder:
        pytest.skip("set MLD_TEST_DATA to a folder of real data")
    config = MnistStrokesConfig(folder=folder, train=40, validation=40, test=40)
    dataset, modality = MnistStrokes(config, {}, 0), Trajectory(TrajectoryConfig())
    splits = {name: dataset.split(name) for name in ("train", "validation", "test")}
    assert len({row for split in splits.values() for row in split.ids}) == 120
    ink = [
        np.mean([np.asarray(image)[min(int(y), 27), min(int(x), 27)] > 0 for x, y, _ in strokes])
        for split in splits.values()
        for image, strokes in zip(split.items["digit"], split.items["strokes"], strict=True)
    ]
    assert np.mean(ink) > 0.9
    for strokes in splits["test"].items["strokes"]:
        assert modality.preprocess(strokes).shape == (48, 3)
