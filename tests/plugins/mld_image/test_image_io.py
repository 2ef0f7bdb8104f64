from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from mld_image import ImageConfig, ImageModality


def modality(size: int = 16, channels: int = 1) -> ImageModality:
    return ImageModality(ImageConfig(latent_dim=16, size=size, channels=channels))


# Files


def test_exif_orientation(tmp_path: Path):
    image = Image.new("RGB", (20, 10), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to display it
    image.paste("blue", (0, 0, 10, 10))
    image.save(tmp_path / "rotated.png", exif=exif)
    upright = modality().read(tmp_path / "rotated.png")
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 5)) == (0, 0, 255)
    assert upright.getpixel((5, 15)) == (255, 0, 0)


def test_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.new("L", (9, 9), value) for value in (50, 200)]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:])
    x = modality().preprocess(modality().read(str(tmp_path / "animation.gif")))
    assert x.mean().item() == pytest.approx(50 / 255, abs=1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
def test_truncated_file(tmp_path: Path, suffix: str):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, suffix)
    content = buffer.getvalue()
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"truncated or corrupt|not an image"):
        modality().read(path)


def test_file_that_is_not_an_image(tmp_path: Path):
    (tmp_path / "words.png").write_text("these are words")
    with pytest.raises(ValueError, match="not an image in a format that Pillow can read"):
        modality().read(tmp_path / "words.png")


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_path_that_cannot_be_opened(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"cannot be opened: (No such file|Is a directory)"):
        modality().read(tmp_path / name)


def test_decompression_bomb(tmp_path: Path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="too large"):
        modality().read(tmp_path / "large.png")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 13, 28, 32, 64, 256])
def test_written_item_reads_back_as_the_same_tensor(tmp_path: Path, size: int, channels: int):
    image = modality(size=size, channels=channels)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)
    x = image.preprocess(Image.fromarray(noise.squeeze()))
    path = image.write(x, tmp_path / "item.v2")
    assert path == tmp_path / "item.v2.png"
    assert torch.equal(image.preprocess(image.read(path)), x)


def test_item_is_rounded_to_the_nearest_level(tmp_path: Path):
    x = torch.full((1, 16, 16), 100.0)
    x[0, 0] = torch.linspace(99.6, 100.4, 16)
    read = modality().read(modality().write(x / 255, tmp_path / "item"))
    assert (np.asarray(read) == 100).all()


# Images to tensors

GREY_LEVELS = {"1": 1.0, "L": 200 / 255, "LA": 200 / 255, "P": 200 / 255, "I;16": 200 / 255}
COLOUR_MODES = ["RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "P"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mode", "level"), GREY_LEVELS.items())
def test_grey_level_in_every_mode(mode: str, level: float, channels: int):
    image = Image.new("L", (30, 40), 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 30), 200 * 257, dtype=np.uint16))
    elif mode != "L":
        image = image.point(lambda v: 255 * (v > 0)) if mode == "1" else image
        image = image.convert(mode)
    x = modality(channels=channels).preprocess(image)
    assert x.shape == (channels, 16, 16)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.full_like(x, level))


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_colour_in_every_mode(mode: str):
    red = Image.new("RGB", (20, 20), (200, 40, 10))
    image = _to_lab(red) if mode == "LAB" else red.convert(mode)
    colour = modality(channels=3).preprocess(image).mean((1, 2)) * 255
    torch.testing.assert_close(colour, torch.tensor([200.0, 40, 10]), atol=12, rtol=0)
    grey = modality(channels=1).preprocess(image).mean() * 255
    assert grey.item() == pytest.approx(0.299 * 200 + 0.587 * 40 + 0.114 * 10, abs=12)


def _to_lab(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L"])
def test_transparent_parts_become_white(tmp_path: Path, mode: str):
    if mode in ("P", "L"):
        Image.new(mode, (20, 20)).save(tmp_path / "clear.png", transparency=0)
        image = modality().read(tmp_path / "clear.png")
    else:
        image = Image.new(mode, (20, 20), (0,) * len(mode))
    assert modality().preprocess(image).min() == 1


def test_half_transparent_black_becomes_grey():
    x = modality().preprocess(Image.new("RGBA", (20, 20), (0, 0, 0, 102)))
    torch.testing.assert_close(x, torch.full_like(x, 0.6))


@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_centre_square_is_cropped(shape: tuple[int, int]):
    values = np.zeros(shape, dtype=np.uint8)
    values[-25 if shape[0] > 10 else 0 :, -25 if shape[1] > 10 else 0 :] = 255
    assert modality(size=10).preprocess(Image.fromarray(values)).min() == 1
    assert modality(size=10).preprocess(Image.fromarray(255 - values)).max() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessing_equals_that_of_torchvision(channels: int):
    rng = np.random.default_rng(0)
    for height, width, size in [(9, 30, 16), (41, 20, 8), (16, 17, 16), (300, 201, 64)]:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        levels = transforms.pil_to_tensor(image.convert("L" if channels == 1 else "RGB"))
        square = transforms.center_crop(levels, [min(height, width)] * 2)
        resized = transforms.resize(square, [size] * 2, InterpolationMode.BICUBIC)
        expected = transforms.to_dtype(resized, torch.float32, scale=True)
        assert torch.equal(modality(size, channels).preprocess(image), expected)


def test_torchvision_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    x = modality().preprocess(Image.new("L", (20, 20)))
    modality().read(modality().write(x, tmp_path / "x"))


def test_resize_without_aliasing():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    x = modality(size=16).preprocess(Image.fromarray(noise))
    assert x.std() < 0.2 * noise.std() / 255


def test_raw_that_is_not_a_usable_image():
    for raw, message in [
        (np.zeros((8, 8)), "got ndarray"),
        (Image.new("F", (8, 8)), "floating-point"),
        (Image.fromarray(np.full((8, 8), -1, dtype=np.int32)), r"outside 0\.\.65535"),
        (Image.new("L", (0, 8)), "no pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            modality().preprocess(raw)
