from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from torch import Generator

from mld_image import ImageConfig, ImageModality


def modality(size: int = 16, channels: int = 1) -> ImageModality:
    return ImageModality(ImageConfig(latent_dim=16, size=size, channels=channels))


# Files


def test_an_exif_orientation_is_respected(tmp_path: Path):
    picture = Image.new("RGB", (20, 10), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    picture.paste("blue", (0, 0, 10, 10))
    picture.save(tmp_path / "turned.png", exif=exif)
    upright = modality().read(tmp_path / "turned.png")
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 5)) == (0, 0, 255)
    assert upright.getpixel((5, 15)) == (255, 0, 0)


def test_a_film_is_read_as_its_first_frame(tmp_path: Path):
    frames = [Image.new("L", (9, 9), value) for value in (10, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    x = modality().preprocess(modality().read(str(tmp_path / "film.gif")))
    assert x.mean().item() == pytest.approx(10 / 255, abs=1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
def test_a_truncated_file_is_a_value_error(tmp_path: Path, suffix: str):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, suffix)
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(ValueError, match=r"truncated or corrupt|no picture"):
        modality().read(path)


def test_a_file_that_is_no_picture_is_a_value_error(tmp_path: Path):
    (tmp_path / "words.png").write_text("these are words")
    with pytest.raises(ValueError, match="no picture in a format that Pillow can read"):
        modality().read(tmp_path / "words.png")


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_a_path_that_cannot_be_opened_is_a_value_error(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=r"cannot be opened: (No such file|Is a directory)"):
        modality().read(tmp_path / name)


def test_a_picture_of_dangerous_size_is_a_value_error(tmp_path: Path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="too large"):
        modality().read(tmp_path / "large.png")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 13, 28, 32, 64, 256])
def test_a_written_item_reads_back_as_the_same_tensor(tmp_path: Path, size: int, channels: int):
    image = modality(size=size, channels=channels)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)
    x = image.preprocess(Image.fromarray(noise.squeeze()))
    path = image.write(x, tmp_path / "item.v2")
    assert path == tmp_path / "item.v2.png"
    assert torch.equal(image.preprocess(image.read(path)), x)


def test_an_item_is_rounded_to_the_nearest_level(tmp_path: Path):
    x = torch.full((1, 16, 16), 100.0)
    x[0, 0] = torch.linspace(99.6, 100.4, 16)
    read = modality().read(modality().write(x / 255, tmp_path / "item"))
    assert (np.asarray(read) == 100).all()


# Pictures to tensors

GREYS = {"1": 1.0, "L": 200 / 255, "LA": 200 / 255, "P": 200 / 255, "I;16": 200 / 255}
COLOURED = ["RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "P"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mode", "level"), GREYS.items())
def test_a_grey_picture_of_any_mode_keeps_its_level(mode: str, level: float, channels: int):
    picture = Image.new("L", (30, 40), 200)
    if mode == "I;16":
        picture = Image.fromarray(np.full((40, 30), 200 * 257, dtype=np.uint16))
    elif mode != "L":
        picture = picture.point(lambda v: 255 * (v > 0)) if mode == "1" else picture
        picture = picture.convert(mode)
    x = modality(channels=channels).preprocess(picture)
    assert x.shape == (channels, 16, 16)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.full_like(x, level))


@pytest.mark.parametrize("mode", COLOURED)
def test_a_coloured_picture_of_any_mode_keeps_its_colour(mode: str):
    red = Image.new("RGB", (20, 20), (200, 40, 10))
    picture = _in_lab(red) if mode == "LAB" else red.convert(mode)
    colour = modality(channels=3).preprocess(picture).mean((1, 2)) * 255
    torch.testing.assert_close(colour, torch.tensor([200.0, 40, 10]), atol=12, rtol=0)
    grey = modality(channels=1).preprocess(picture).mean() * 255
    assert grey.item() == pytest.approx(0.299 * 200 + 0.587 * 40 + 0.114 * 10, abs=12)


def _in_lab(picture: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L"])
def test_transparent_parts_show_white(tmp_path: Path, mode: str):
    if mode in ("P", "L"):
        Image.new(mode, (20, 20)).save(tmp_path / "clear.png", transparency=0)
        picture = modality().read(tmp_path / "clear.png")
    else:
        picture = Image.new(mode, (20, 20), (0,) * len(mode))
    assert modality().preprocess(picture).min() == 1


def test_half_transparent_black_is_grey():
    x = modality().preprocess(Image.new("RGBA", (20, 20), (0, 0, 0, 102)))
    torch.testing.assert_close(x, torch.full_like(x, 0.6))


@pytest.mark.parametrize("shape", [(10, 40), (40, 10)])
def test_the_middle_square_is_kept(shape: tuple[int, int]):
    values = np.zeros(shape, dtype=np.uint8)
    values[-25 if shape[0] > 10 else 0 :, -25 if shape[1] > 10 else 0 :] = 255
    assert modality(size=10).preprocess(Image.fromarray(values)).min() == 1
    assert modality(size=10).preprocess(Image.fromarray(255 - values)).max() == 0


def test_a_picture_is_shrunk_without_aliasing():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    x = modality(size=16).preprocess(Image.fromarray(noise))
    assert x.std() < 0.2 * noise.std() / 255


def test_what_is_no_picture_or_has_no_range_is_a_value_error():
    for raw, reason in [
        (np.zeros((8, 8)), "not ndarray"),
        (Image.new("F", (8, 8)), "floating-point"),
        (Image.fromarray(np.full((8, 8), -1, dtype=np.int32)), r"outside 0\.\.65535"),
        (Image.new("L", (0, 8)), "no pixels"),
    ]:
        with pytest.raises(ValueError, match=reason):
            modality().preprocess(raw)


# Metrics


def test_psnr_and_ssim_agree_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    generator = Generator().manual_seed(0)
    for side, channels in [(11, 1), (16, 1), (33, 3)]:
        originals = F.interpolate(torch.rand(70, channels, 6, 6, generator=generator), side)
        noise = torch.randn(originals.shape, generator=generator)
        items = (originals + 0.1 * noise).clamp(0, 1)
        expected = {"psnr": [], "ssim": []}
        for item, original in zip(items.double().numpy(), originals.double().numpy(), strict=True):
            expected["psnr"].append(metrics.peak_signal_noise_ratio(original, item, data_range=1))
            similarity = metrics.structural_similarity(
                original, item, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )  # fmt: skip
            expected["ssim"].append(similarity)
        for name, metric in modality().metrics().items():
            assert metric.measure(items, originals) == pytest.approx(np.mean(expected[name]))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_metric_is_best_for_a_copy_and_falls_with_noise(name: str):
    metric = modality().metrics()[name]
    generator = Generator().manual_seed(0)
    x = torch.rand(20, 1, 8, 8, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    values = [metric.measure((x + share * noise).clamp(0, 1), x) for share in (0, 0.05, 0.2)]
    assert metric.better == "higher"
    assert values[0] == pytest.approx(metric.best)
    assert values[0] > values[1] > values[2]


def test_ssim_of_the_smallest_pictures_has_a_symmetric_window():
    x, y = torch.rand(2, 3, 1, 8, 8, generator=Generator().manual_seed(0))
    measure = modality().metrics()["ssim"].measure
    assert measure(x.flip(-1), y.flip(-1)) == pytest.approx(measure(x, y))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_metric_of_nothing_is_a_value_error(name: str):
    nothing = torch.empty(0, 1, 16, 16)
    measure = modality().metrics()[name].measure
    with pytest.raises(ValueError, match="no pictures"):
        measure(nothing, nothing)
    for reference in (nothing, torch.rand(1, 1, 16, 16)):
        with pytest.raises(ValueError, match="row by row"):
            measure(torch.rand(2, 1, 16, 16), reference)
