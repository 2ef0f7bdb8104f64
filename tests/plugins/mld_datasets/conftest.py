from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def write_mnist(tmp_path: Path) -> Callable[..., Path]:
    """Writes small MNIST files into mnist/ of a folder: image i has level i and label i % 10."""

    def write_mnist(train: int = 240, test: int = 60, suffix: str = ".gz") -> Path:
        raw = tmp_path / "mnist" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for part, count in (("train", train), ("t10k", test)):
            levels = np.arange(count, dtype=np.uint8)
            pixels = np.broadcast_to(levels[:, None, None], (count, 28, 28))
            write_idx(raw / f"{part}-images-idx3-ubyte{suffix}", pixels)
            write_idx(raw / f"{part}-labels-idx1-ubyte{suffix}", levels % 10)
        return tmp_path

    return write_mnist


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "wb") as file:
        file.write(header + values.tobytes())
