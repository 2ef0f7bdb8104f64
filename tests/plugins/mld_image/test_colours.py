"""Colour profiles, and values of another range."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mld_image import ImageConfig, ImageModality
from mld_image.colours import to_rgb

NOISE = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)


def swapped_profile() -> bytes:
    """The profile of sRGB in which red and green are swapped."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def reopened(image: Image.Image, profile: bytes, suffix: str = "png") -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, suffix, icc_profile=profile)
    return Image.open(buffer)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_applied(mode: str) -> None:
    red = Image.new("RGB", (9, 9), (255, 0, 0)).convert(mode)
    assert to_rgb(reopened(red, swapped_profile())).getpixel((4, 4)) == pytest.approx(
        (0, 255, 0), abs=2
    )


def test_transparent_parts_stay_white_with_a_profile() -> None:
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    assert to_rgb(reopened(clear, swapped_profile())).getpixel((4, 4)) == (255, 255, 255)


def test_the_profile_of_srgb_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(to_rgb(reopened(Image.fromarray(NOISE), srgb)), NOISE)


@pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:200]])
def test_damaged_profiles_are_ignored_with_a_warning(profile: bytes) -> None:
    with pytest.warns(UserWarning, match="the colour profile of the image is ignored"):
        assert np.array_equal(to_rgb(reopened(Image.fromarray(NOISE), profile)), NOISE)


def test_profiles_of_other_colours_are_ignored_with_a_warning() -> None:
    image = reopened(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), swapped_profile(), "tiff")
    with pytest.warns(UserWarning, match="it is for RGB, but the image is CMYK"):
        assert to_rgb(image).getpixel((4, 4))[0] > 200


@pytest.mark.parametrize(("bits", "factor"), [(8, 256), (10, 64), (12, 16), (14, 4)])
def test_fewer_bits_in_16_bits(bits: int, factor: int) -> None:
    values = np.full((9, 9), 2**bits - 1, dtype=np.uint16)
    with pytest.warns(UserWarning, match=f"only {bits} of its 16 bits .* values by {factor}$"):
        to_rgb(Image.fromarray(values))


@pytest.mark.parametrize("highest", [0, 2**14, 2**16 - 1])
def test_16_bits(highest: int) -> None:
    to_rgb(Image.fromarray(np.full((9, 9), highest, dtype=np.uint16)))


@pytest.mark.parametrize(("level", "warns"), [(0, False), (1, True), (15, True), (16, False)])
@pytest.mark.filterwarnings("always")
def test_almost_black(level: int, warns: bool, recwarn: pytest.WarningsRecorder) -> None:
    to_rgb(Image.new("L", (9, 9), level))
    starts = [str(warning.message)[:24] for warning in recwarn]
    assert starts == ["the image is almost blac"] * warns


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "the image is HEIC: install pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "the image is HEIC: install pillow-heif"),
        (b"\xff\x0a\0\0", "the file is JPEG XL"),
        (b"  <SVG width='1'/>", "the file is an SVG drawing"),
        (b"<!DOCTYPE html><html>", "the file is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "the file is a pointer of Git LFS"),
        (b"%PDF-1.4", "the file is a PDF"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ImageModality(ImageConfig(latent_dim=4)).read(path)
