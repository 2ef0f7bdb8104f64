from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Generator, Tensor

from mld_core import SPLITS, Registry
from mld_image import ImageConfig, ImageModality

SIZES = [8, 13, 28, 32, 33, 50, 64]


def modality(latent_dim: int = 16, size: int = 16, channels: int = 1) -> ImageModality:
    return ImageModality(ImageConfig(latent_dim=latent_dim, size=size, channels=channels))


def digits(split: str, rows: int, seed: int = 0, size: int = 16) -> tuple[Tensor, Tensor]:
    labels = [row % 10 for row in range(rows)]
    raw = modality().examples(labels, split, np.random.default_rng(seed))
    return torch.stack([modality(size=size).preprocess(image) for image in raw]), torch.tensor(
        labels
    )


# The registry and the config


def test_registry_finds_image():
    assert Registry().modality("image") is ImageModality


def test_default_config():
    config = ImageConfig()
    assert (config.size, config.channels) == (32, 3)


@pytest.mark.parametrize(
    "settings", [{"size": 7}, {"size": 257}, {"channels": 2}, {"latent_dim": 0}, {"side": 32}]
)
def test_config_out_of_range(settings: dict[str, int]):
    with pytest.raises(ValidationError):
        ImageConfig(**settings)


# Augmentation


def test_augment_changes_an_image_only_slightly():
    x, _ = digits("train", 200, size=32)
    augmented = modality(size=32).augment(x, Generator().manual_seed(0))
    assert (augmented.shape, augmented.dtype) == (x.shape, x.dtype)
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert not torch.equal(augmented, x)
    # Downsampled to 4 × 4, a shift by a pixel or two hardly changes the image ...
    blurred, original = F.avg_pool2d(augmented, 8), F.avg_pool2d(x, 8)
    mirrored = F.avg_pool2d(x.flip(-1), 8)
    between_images = (original.roll(1, 0) - original).abs().mean()
    assert (blurred - original).abs().mean() < 0.6 * between_images
    # ... and no image is nearer to its mirror image than to itself.
    asymmetric = (mirrored - original).flatten(1).norm(dim=1) > 0.8
    assert asymmetric.sum() > 20
    nearer = (blurred - original).flatten(1).norm(dim=1) < (blurred - mirrored).flatten(1).norm(
        dim=1
    )
    assert nearer[asymmetric].all()


def test_augment_is_the_same_under_autocast():
    x, _ = digits("train", 8)
    expected = modality().augment(x, Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(modality().augment(x, Generator().manual_seed(1)), expected)


def test_augment_is_a_small_affine_map():
    # The value of each pixel is its x or its y, so the augmented image shows where it comes from.
    side, rows, inner = 32, 50, slice(4, -4)
    centres = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    sources = []
    for ramp in (x, y):
        images = (ramp / 2 + 0.5).expand(rows, 1, side, side)
        augmented = modality().augment(images, Generator().manual_seed(0))
        sources.append((2 * augmented - 1)[:, 0, inner, inner].flatten(1))
    source = torch.stack(sources, dim=-1)
    target = torch.stack([x, y, torch.ones_like(x)], dim=-1)[inner, inner].flatten(0, 1)
    fit = torch.linalg.lstsq(target.expand(rows, -1, -1), source).solution
    # Bicubic interpolation of a ramp is off by up to a tenth of a pixel, 0.00625.
    assert (target @ fit - source).abs().max() < 0.0075
    matrix, shift = fit[:, :2].mT, fit[:, 2]
    assert (matrix[..., 0] * matrix[..., 1]).sum(1).abs().max() < 0.01
    stretch = matrix.norm(dim=1) - 1
    rotation = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    for values, limit in ((stretch, 0.06), (rotation, math.radians(6)), (shift, 2 * 0.04)):
        assert -1.02 * limit < values.min() < -0.8 * limit
        assert 0.8 * limit < values.max() < 1.02 * limit


def test_augment_draws_for_each_image():
    x, _ = digits("train", 1)
    augmented = modality().augment(x.expand(5, -1, -1, -1), Generator().manual_seed(0))
    assert len(torch.unique(augmented, dim=0)) == 5


# Networks


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_shapes_and_gradients(size: int, channels: int):
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
def test_largest_size(channels: int):
    image = modality(size=256, channels=channels)
    x = torch.rand(2, channels, 256, 256)
    with torch.no_grad():
        autoencoder = image.autoencoder().eval()
        assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape
        assert image.classifier(3)(x).shape == (2, 3)


def test_networks_return_float32_under_autocast():
    image, x = modality(), digits("train", 4)[0]
    autoencoder, classifier = image.autoencoder(), image.classifier(10)
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(x)
        outputs = [z, autoencoder.decode(z), autoencoder.loss(z, x)]
        outputs += [classifier.features(x), classifier(x)]
    assert {output.dtype for output in outputs} == {torch.float32}
    assert autoencoder.decode(100 * z).min() >= 0
    assert autoencoder.decode(100 * z).max() <= 1


@pytest.mark.parametrize("training", [True, False])
def test_networks_are_deterministic_and_independent_of_batch(training: bool):
    image, x = modality(), digits("train", 6)[0]
    autoencoder = image.autoencoder().train(training)
    classifier = image.classifier(10).train(training)
    z = autoencoder.encode(x)
    assert torch.equal(autoencoder.encode(x), z)
    torch.testing.assert_close(autoencoder.encode(x[:1]), z[:1])
    torch.testing.assert_close(autoencoder.decode(z[:1]), autoencoder.decode(z)[:1])
    torch.testing.assert_close(classifier(x[:1]), classifier(x)[:1])


def test_loss_is_a_laplace_log_likelihood():
    autoencoder = modality().autoencoder().eval()
    x = digits("train", 2)[0]
    z = torch.randn(2, 16, generator=Generator().manual_seed(0))
    laplace = torch.distributions.Laplace(autoencoder.decode(z), 0.05)
    expected = -laplace.log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(autoencoder.loss(z, x) + 256 * math.log(0.1), expected)


# Examples


def test_each_scan_belongs_to_one_split():
    from sklearn.datasets import load_digits

    from mld_image.example_digits import load_scans

    scans = []
    for split in SPLITS:
        for digit in range(10):
            scans += [(split, scan.tobytes()) for scan in load_scans(digit, split)]
    assert len(scans) == len(load_digits().target)
    splits_of: dict[bytes, set[str]] = {}
    for split, scan in scans:
        splits_of.setdefault(scan, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_more_examples_than_scans():
    images = modality().examples([4] * 60, "test", np.random.default_rng(0))
    assert len({image.tobytes() for image in images}) == 60


# Training


@pytest.mark.slow
@pytest.mark.long
def test_reconstructions_keep_the_digit(train_autoencoder, train_classifier):
    torch.manual_seed(0)
    image = modality()
    x, labels = digits("train", 4000)
    held_out, truth = digits("test", 500, seed=1)
    autoencoder, classifier = image.autoencoder(), image.classifier(10)
    train_classifier(classifier, x, labels, 600, image.augment)
    train_autoencoder(autoencoder, x, 1000, image.augment)

    def accuracy(items: Tensor) -> float:
        return (classifier(items).argmax(1) == truth).float().mean().item()

    with torch.no_grad():
        z = autoencoder.encode(held_out)
        nearby = z + 0.2 * z.std(0) * torch.randn(z.shape, generator=Generator().manual_seed(0))
        assert accuracy(held_out) > 0.97
        assert accuracy(autoencoder.decode(z)) > 0.94
        assert accuracy(autoencoder.decode(nearby)) > 0.9
