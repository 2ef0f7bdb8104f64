"""Any bytes as a picture, a sound, a text, a molecule or a vector, and any text as a cell."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from mld_core import Modality, Registry

SETTINGS: dict[str, dict[str, Any]] = {
    "image": {"size": 8},
    "audio": {"too_long": "truncate"},
    "text": {"max_bytes": 16, "too_long": "truncate"},
    "molecule": {"max_symbols": 12},
    "vector": {},
}
PICTURES = (
    *(("RGB", suffix) for suffix in ("png", "jpeg", "gif", "bmp", "tiff", "webp")),
    *((mode, "png") for mode in ("P", "L", "RGBA")),
    ("1", "ppm"),
)
SOUNDS = (
    *(("wav", subtype) for subtype in ("PCM_16", "FLOAT")),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("aiff", "PCM_24"),
    ("au", "ULAW"),
)
SMILES = st.text(st.sampled_from("CNOSPFIBclnosr[]()=#$-+.@/\\%0123456789*HeaA \n"), max_size=24)
SEEDS = ["CCO", "c1ccccc1", "C[Se]C", "[Na+].[Cl-]", "C/C=C/C", "C[C@H](N)O", "F[P-](F)(F)(F)(F)F"]


def pictures() -> list[bytes]:
    """A small picture in each of several formats and modes."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (9, 7, 4), np.uint8)
    contents = []
    for mode, suffix in PICTURES:
        buffer = io.BytesIO()
        Image.fromarray(levels).convert(mode).save(buffer, suffix)
        contents.append(buffer.getvalue())
    return contents


def sounds() -> list[bytes]:
    """A short sound in each of several formats."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 2))
    contents = []
    for suffix, subtype in SOUNDS:
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 44_099, subtype, format=suffix)
        contents.append(buffer.getvalue())
    return contents


def vectors() -> list[bytes]:
    """Six numbers in each of several types."""
    contents = []
    for dtype in ("<f4", ">f8", "i2", "c8", "U2"):
        buffer = io.BytesIO()
        np.save(buffer, np.arange(6).astype(dtype))
        contents.append(buffer.getvalue())
    return contents


@st.composite
def damaged(draw: Any, contents: list[bytes]) -> bytes:
    """One of some contents, in which a few bytes are replaced, or whose end is missing."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(0, 4))):
        # Most of what a format's reader believes is at the beginning.
        start = draw(st.integers(0, min(len(content), 64)) | st.integers(0, len(content)))
        stop = start + draw(st.integers(0, 4))
        content = content[:start] + draw(st.binary(max_size=4)) + content[stop:]
    return content[: draw(st.just(len(content)) | st.integers(0, len(content)))]


VALID = {
    "image": pictures()[0],
    "audio": sounds()[0],
    "vector": vectors()[0],
    "text": b"one",
    "molecule": b"CCO",
}
MOLECULES = SMILES.map(str.encode) | damaged([smiles.encode() for smiles in SEEDS])
CONTENTS = {
    "image": damaged(pictures()) | st.binary(),
    "audio": damaged(sounds()) | st.binary(),
    "text": st.binary() | st.text().map(lambda text: text.encode("utf-16")),
    "molecule": MOLECULES | st.binary(),
    "vector": damaged(vectors()) | st.binary(),
}
SAMPLES: dict[str, Any] = {"molecule": SEEDS, "vector": [np.arange(6)], "number": [1.0, 2.0]}
"""Data to which kinds are fitted; others need none."""


@pytest.fixture
def modality(kind: str, registry: Registry) -> Modality:
    plugin_class = registry.modality(kind)
    settings = {"latent_dim": 4, **SETTINGS[kind]} if kind in SETTINGS else {}
    config = plugin_class.Config.model_validate(settings)
    return plugin_class(config, plugin_class.fit(config, SAMPLES.get(kind, ())))


def item_of(modality: Modality, source: Path | str) -> Tensor | None:
    """The item of a source; None if it is refused with a message."""
    try:
        return modality.preprocess(modality.read(source))
    except ValueError as error:
        return None if str(error) else pytest.fail("without a message")


@pytest.mark.parametrize("kind", SETTINGS)
def test_any_file(kind: str, for_any: Any, modality: Modality, tmp_path: Path) -> None:
    path = tmp_path / "item"
    path.write_bytes(VALID[kind])
    expected = modality.preprocess(modality.read(path))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            item = item_of(modality, path)
        if item is not None:
            assert (item.shape, item.dtype) == (expected.shape, expected.dtype)
            assert torch.isfinite(item).all()
        assert path.read_bytes() == content

    for_any(100, CONTENTS[kind], check)


@pytest.mark.parametrize("kind", ["text", "molecule"])
def test_any_cell(kind: str, for_any: Any, modality: Modality) -> None:
    def check(cell: str) -> None:
        item = item_of(modality, cell)
        if item is not None:
            assert modality.preprocess(modality.read(modality.cell(item))).equal(item)

    for_any(100, st.text() | SMILES | st.sampled_from(SEEDS), check)


NUMBERS = st.text(st.sampled_from("0123456789.,eE+- ;"), max_size=12)


@pytest.mark.parametrize("kind", ["number"])
def test_any_cell_of_a_number(for_any: Any, modality: Modality) -> None:
    autoencoder = modality.autoencoder()

    def check(cell: str) -> None:
        item = item_of(modality, cell)
        if item is not None:
            torch.testing.assert_close(
                modality.preprocess(modality.read(modality.cell(item))), item
            )
            assert autoencoder.encode(item[None]).isfinite().all()

    for_any(100, NUMBERS | st.floats().map(str) | st.integers().map(str) | st.text(), check)
