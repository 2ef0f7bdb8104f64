"""Inputs of the page: which there are, what they give, and the paper of drawings."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image, ImageDraw

from mld.serving.given import INKS, SOURCES, datum_of, paper_like, sources_of
from mld_core import DataError, MediaType, Registry


@pytest.mark.parametrize(
    ("kind", "settings", "sources"),
    [
        ("image", {"latent_dim": 4, "size": 8, "channels": 1}, ("upload", "draw")),
        ("audio", {"latent_dim": 4}, ("upload", "record")),
        ("text", {"latent_dim": 4}, ("type",)),
        ("molecule", {"latent_dim": 4}, ("type",)),
        ("number", {}, ("type",)),
        ("vector", {}, ("upload",)),
    ],
)
def test_sources_follow_the_media_type(
    kind: str, settings: dict[str, int], sources: tuple[str, ...]
) -> None:
    modality = Registry().modality(kind)
    assert sources_of(modality(modality.Config(**settings))) == sources


def test_categories_are_chosen() -> None:
    category = Registry().modality("category")
    modality = category(category.Config(), {"values": ["cat", "dog"], "generated": 2})
    assert sources_of(modality) == ("choose",)
    assert [*modality.choices] == ["cat", "dog"]


def test_several_numbers_are_typed_as_a_text() -> None:
    number = Registry().modality("number")
    assert [number(number.Config(size=size)).media_type for size in (1, 2)] == ["number", "text"]


def test_every_media_type_has_sources() -> None:
    assert set(SOURCES) == set(get_args(MediaType))


def test_inputs_give_files_cells_or_items() -> None:
    item = torch.zeros(3)
    assert datum_of("upload", "/a/b.png") == Path("/a/b.png")
    assert datum_of("record", "/a/b.wav") == Path("/a/b.wav")
    assert datum_of("type", "seven ") == "seven "
    assert datum_of("type", 0.0) == 0.0
    assert datum_of("sample", item) is item
    for source in ("upload", "draw", "record", "type", "choose", "sample"):
        assert datum_of(source, None) is None
    assert datum_of("type", " \n") is None


def test_drawings_without_a_stroke_give_nothing(tmp_path: Path) -> None:
    layer, composite = tmp_path / "layer.png", tmp_path / "composite.png"
    picture = Image.new("RGBA", (20, 20))
    picture.save(layer)
    drawing = {"background": None, "layers": [str(layer)], "composite": str(composite)}
    assert datum_of("draw", drawing) is None
    ImageDraw.Draw(picture).line((2, 2, 9, 9), fill="black")
    picture.save(layer)
    assert datum_of("draw", drawing) == composite
    layer.write_bytes(b"no picture")
    with pytest.raises(DataError, match="drawing cannot be read"):
        datum_of("draw", drawing)


def framed(path: Path, border: str, inside: str, mode: str = "RGB") -> Path:
    picture = Image.new("RGB", (12, 8), border)
    picture.paste(inside, (2, 2, 10, 6))
    picture.convert(mode).save(path)
    return path


def test_paper_has_the_colour_of_the_borders(tmp_path: Path) -> None:
    dark = [framed(tmp_path / f"{n}.png", "black", "white", "L") for n in range(2)]
    assert paper_like(dark).colour == "#000000"
    assert [*paper_like(dark).inks] == ["#ffffff"]
    sky = paper_like([framed(tmp_path / "sky.png", "#87ceeb", "black")])
    assert sky.colour == "#87ceeb"
    assert [*sky.inks] == ["#000000", *INKS]
    assert paper_like([]).colour == "#ffffff"
