from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from mld_core import Registry
from mld_table.line_plot import draw_line
from mld_table.number_networks import NumberAutoencoder
from mld_table.vector import Vector, VectorConfig
from mld_table.vector_networks import VectorAutoencoder

RNG = np.random.default_rng(0)
VECTORS = [*(RNG.normal(size=(20, 6)) * [1, 2, 3, 4, 5, 0] + 7)]


def fitted(raw: list[np.ndarray] = VECTORS, **config: object) -> Vector:
    settings = VectorConfig.model_validate(config)
    return Vector(settings, Vector.fit(settings, raw))


def test_registry_finds_vector():
    assert Registry().modality("vector") is Vector


def test_facts_are_moments():
    facts = fitted().facts
    np.testing.assert_allclose(facts["mean"], np.mean(VECTORS, 0))
    np.testing.assert_allclose(facts["std"], [*np.std(VECTORS, 0)[:5], 1])


def test_the_code_of_a_short_vector_is_exact():
    modality = fitted()
    assert modality.latent_dim == 6
    autoencoder = modality.autoencoder()
    assert isinstance(autoencoder, NumberAutoencoder)
    x = torch.stack([modality.preprocess(vector) for vector in VECTORS])
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), x)
    assert isinstance(fitted(latent_dim=5).autoencoder(), VectorAutoencoder)


def test_a_vector_of_another_length_is_left_to_preprocess():
    modality = fitted([np.ones(3), *VECTORS])
    with pytest.raises(ValueError, match="has 3 numbers, and most training vectors 6"):
        modality.preprocess(np.ones(3))
    with pytest.raises(ValueError, match="no vector has length = 4, but 6"):
        fitted(length=4)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f8", "int16", "float16", "uint8"])
def test_files_are_read(tmp_path: Path, dtype: str):
    np.save(tmp_path / "a.npy", np.arange(5).astype(dtype))
    raw = Vector(VectorConfig()).read(tmp_path / "a.npy")
    assert raw.dtype == np.float64
    assert raw.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (np.float64(1), r"shape \(\)"),
        (np.ones(0), "shape|empty"),
        (np.ones(16_385), "shape"),
        (np.array([1, np.nan]), "number 1 is nan"),
        (np.array([1e300]), "number 0 is 1e"),
        (np.array(["a"]), "not <U1"),
        (np.array([1j]), "not complex128"),
        (np.array([None]), "not an .npy file of numbers"),
        (np.array([True]), "not bool"),
    ],
)
def test_files_that_hold_no_vector(tmp_path: Path, array: np.ndarray, message: str):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        Vector(VectorConfig()).read(tmp_path / "a.npy")


HEADER = b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (10000,), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"1 2 3\n", "not an .npy file"),
        (HEADER.ljust(127) + b"\n" + bytes(8), "not an .npy file"),
        (HEADER[:40], "not an .npy file"),
        (HEADER.replace(b"}", b"(").ljust(127) + b"\n" + bytes(8), "not an .npy file"),
        (b"\x93NUMPY" + bytes(2), "not an .npy file"),
        (bytes(400_000), "400,000 bytes, and at most"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Vector(VectorConfig()).read(tmp_path / "a.npy")


def test_files_that_are_none(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("pipe.npy", "none.npy", "."):
        with pytest.raises(OSError, match=r"regular file|No such file|directory"):
            Vector(VectorConfig()).read(tmp_path / name)
    np.savez(tmp_path / "a.npz", np.ones(3))
    with pytest.raises(ValueError, match="npz file holds several"):
        Vector(VectorConfig()).read(tmp_path / "a.npz")


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [-1e37, 1e37], [*np.sin(np.arange(2e4))]])
def test_plots_are_small_svg(values: list[float]):
    svg = draw_line(values)
    points = ElementTree.fromstring(svg)[1].attrib["points"].split()
    assert "nan" not in svg
    assert len(points) == min(len(values), 960)
    heights = [float(point.split(",")[1]) for point in points]
    assert min(heights) >= 4
    assert max(heights) <= 86
