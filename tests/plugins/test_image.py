from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mld_image import ImageConfig, ImageModality
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Generator, Tensor, nn

from mld_core import Registry

SIZES = [8, 13, 28, 32, 64]


def modality(latent_dim: int = 16, size: int = 16, channels: int = 1) -> ImageModality:
    return ImageModality(ImageConfig(latent_dim=latent_dim, size=size, channels=channels))


def digits(split: str, rows: int, seed: int = 0, size: int = 16) -> tuple[Tensor, Tensor]:
    labels = [row % 10 for row in range(rows)]
    raw = modality().examples(labels, split, np.random.default_rng(seed))
    return torch.stack([modality(size=size).preprocess(one) for one in raw]), torch.tensor(labels)


def train(network: nn.Module, loss_of, rows: int, updates: int) -> None:
    generator = Generator().manual_seed(0)
    adam = torch.optim.Adam(network.parameters(), 2e-3, fused=True)
    network.train()
    for _ in range(updates):
        chosen = torch.randint(rows, (128,), generator=generator)
        adam.zero_grad()
        loss_of(chosen, generator).backward()
        adam.step()
    network.eval()


# The registry and the config


def test_the_registry_finds_the_image_modality_under_its_kind():
    assert Registry().modality("image") is ImageModality


def test_the_defaults_are_a_valid_config_in_colour():
    config = ImageConfig()
    assert (config.size, config.channels) == (32, 3)


@pytest.mark.parametrize(
    "wrong", [{"size": 7}, {"size": 257}, {"channels": 2}, {"latent_dim": 0}, {"side": 32}]
)
def test_a_config_out_of_range_is_refused(wrong: dict[str, int]):
    with pytest.raises(ValidationError):
        ImageConfig(**wrong)


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
@pytest.mark.parametrize("size", [*SIZES, 256])
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


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    x = digits("train", 1)[0][0]
    first, second = (modality().write(x, tmp_path / name).read_bytes() for name in "ab")
    assert first == second


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
    from PIL import ImageCms

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


# Variations


def test_a_variation_is_small_and_of_the_same_kind():
    x, _ = digits("train", 200, size=32)
    varied = modality(size=32).augment(x, Generator().manual_seed(0))
    assert (varied.shape, varied.dtype) == (x.shape, x.dtype)
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert not torch.equal(varied, x)
    # Blurred to a quarter of the size, what moves by a pixel or two hardly changes ...
    blurred, original = F.avg_pool2d(varied, 8), F.avg_pool2d(x, 8)
    mirrored = F.avg_pool2d(x.flip(-1), 8)
    apart = (original.roll(1, 0) - original).abs().mean()
    assert (blurred - original).abs().mean() < 0.6 * apart
    # ... and no picture is nearer to its mirror image than to itself.
    asymmetric = (mirrored - original).flatten(1).norm(dim=1) > 0.8
    assert asymmetric.sum() > 20
    nearer = (blurred - original).flatten(1).norm(dim=1) < (blurred - mirrored).flatten(1).norm(
        dim=1
    )
    assert nearer[asymmetric].all()


def test_variations_follow_the_generator_alone():
    x, _ = digits("train", 8)
    one, again, other = (modality().augment(x, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(modality().augment(x, Generator().manual_seed(1)), one)


def test_each_picture_of_a_batch_varies_by_itself():
    x, _ = digits("train", 1)
    varied = modality().augment(x.expand(5, -1, -1, -1), Generator().manual_seed(0))
    assert len(torch.unique(varied, dim=0)) == 5


# Networks


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_weight_learns_and_every_shape_holds(size: int, channels: int):
    image = modality(latent_dim=5, size=size, channels=channels)
    x = torch.rand(4, channels, size, size)
    autoencoder, classifier = image.autoencoder(), image.classifier(7)
    loss = autoencoder.loss(autoencoder.encode(x), x)
    assert loss.shape == (4,)
    assert classifier.features(x).shape == (4, 64)
    F.cross_entropy(classifier(x), torch.arange(4)).backward()
    loss.mean().backward()
    for network in (autoencoder, classifier):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    autoencoder.eval()
    z = autoencoder.encode(x)
    assert z.shape == (4, 5)
    assert autoencoder.decode(z).shape == x.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_the_largest_size_goes_through(channels: int):
    image = modality(size=256, channels=channels)
    x = torch.rand(2, channels, 256, 256)
    with torch.no_grad():
        autoencoder = image.autoencoder().eval()
        assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape
        assert image.classifier(3)(x).shape == (2, 3)


def test_networks_answer_in_float32_under_autocast():
    image, x = modality(), digits("train", 4)[0]
    autoencoder, classifier = image.autoencoder(), image.classifier(10)
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(x)
        answers = [z, autoencoder.decode(z), autoencoder.loss(z, x)]
        answers += [classifier.features(x), classifier(x)]
    assert {answer.dtype for answer in answers} == {torch.float32}
    assert autoencoder.decode(100 * z).min() >= 0
    assert autoencoder.decode(100 * z).max() <= 1


def test_evaluation_is_deterministic_and_knows_no_batch():
    image, x = modality(), digits("train", 6)[0]
    autoencoder, classifier = image.autoencoder().eval(), image.classifier(10).eval()
    z = autoencoder.encode(x)
    assert torch.equal(autoencoder.encode(x), z)
    torch.testing.assert_close(autoencoder.encode(x[:1]), z[:1])
    torch.testing.assert_close(autoencoder.decode(z[:1]), autoencoder.decode(z)[:1])
    torch.testing.assert_close(classifier(x[:1]), classifier(x)[:1])


def test_the_loss_is_a_laplace_log_likelihood_up_to_a_constant():
    autoencoder = modality().autoencoder().eval()
    x = digits("train", 2)[0]
    z = torch.randn(2, 16, generator=Generator().manual_seed(0))
    laplace = torch.distributions.Laplace(autoencoder.decode(z), 0.05)
    expected = -laplace.log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(autoencoder.loss(z, x) + 256 * math.log(0.1), expected)


def test_weights_survive_safetensors():
    autoencoder = modality().autoencoder()
    other = modality().autoencoder()
    other.load_state_dict(load(save(autoencoder.state_dict())))
    x = digits("train", 2)[0]
    assert torch.equal(other.eval().encode(x), autoencoder.eval().encode(x))


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
    x = digits("test", 20, size=8)[0]
    noise = torch.randn(x.shape, generator=Generator().manual_seed(0))
    values = [metric.measure((x + share * noise).clamp(0, 1), x) for share in (0, 0.05, 0.2)]
    assert metric.better == "higher"
    assert values[0] == pytest.approx(metric.best)
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_metric_of_nothing_is_a_value_error(name: str):
    nothing = torch.empty(0, 1, 16, 16)
    measure = modality().metrics()[name].measure
    with pytest.raises(ValueError, match="no pictures"):
        measure(nothing, nothing)
    for reference in (nothing, torch.rand(1, 1, 16, 16)):
        with pytest.raises(ValueError, match="row by row"):
            measure(torch.rand(2, 1, 16, 16), reference)


# Examples


def test_examples_follow_the_rng_and_differ_within_a_label():
    labels = [3, 3, 7, 0]
    one, again, other = (
        [picture.tobytes() for picture in modality().examples(labels, "train", rng)]
        for rng in map(np.random.default_rng, (5, 5, 6))
    )
    assert one == again
    assert not set(one) & set(other)
    assert len(set(one)) == 4


def test_splits_share_no_digit_and_together_hold_them_all():
    from mld_image.digits import _scans
    from sklearn.datasets import load_digits

    found = []
    for split in ("train", "validation", "test"):
        for label in range(10):
            found += [(split, scan.tobytes()) for scan in _scans(label, split)]
    assert len(found) == len(load_digits().target)
    owners: dict[bytes, set[str]] = {}
    for split, scan in found:
        owners.setdefault(scan, set()).add(split)
    assert all(len(splits) == 1 for splits in owners.values())


def test_more_examples_may_be_asked_for_than_there_are():
    pictures = modality().examples([4] * 60, "test", np.random.default_rng(0))
    assert len({picture.tobytes() for picture in pictures}) == 60


# What it is for


@pytest.mark.slow
def test_reconstructed_digits_are_recognised_and_so_are_their_neighbours():
    torch.manual_seed(0)
    image = modality()
    x, labels = digits("train", 4000)
    held_out, truth = digits("test", 500, seed=1)
    autoencoder, classifier = image.autoencoder(), image.classifier(10)

    def recognition(rows: Tensor, generator: Generator) -> Tensor:
        return F.cross_entropy(classifier(image.augment(x[rows], generator)), labels[rows])

    def reconstruction(rows: Tensor, generator: Generator) -> Tensor:
        items = image.augment(x[rows], generator)
        return autoencoder.loss(autoencoder.encode(items), items).mean()

    train(classifier, recognition, len(x), 600)
    train(autoencoder, reconstruction, len(x), 1000)

    def accuracy(items: Tensor) -> float:
        return (classifier(items).argmax(1) == truth).float().mean().item()

    with torch.no_grad():
        z = autoencoder.encode(held_out)
        nearby = z + 0.2 * z.std(0) * torch.randn(z.shape, generator=Generator().manual_seed(0))
        assert accuracy(held_out) > 0.97
        assert accuracy(autoencoder.decode(z)) > 0.94
        assert accuracy(autoencoder.decode(nearby)) > 0.9
