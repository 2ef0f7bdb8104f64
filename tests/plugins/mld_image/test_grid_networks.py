from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d

from mld_image import ImageConfig, ImageModality
from mld_image.grid_networks import LATENT_NOISE_STD
from mld_image.metrics import psnr


def grid_image(size: int = 16, colours: int = 1, **latent: int) -> ImageModality:
    config = {"size": size, "channels": colours, "latent": latent}
    return ImageModality(ImageConfig.model_validate(config))


def digits(split: str, rows: int, size: int = 16) -> Tensor:
    image = grid_image(size)
    raw = image.examples([row % 10 for row in range(rows)], split, np.random.default_rng(0))
    return torch.stack([image.preprocess(picture) for picture in raw])


@pytest.mark.parametrize(
    ("size", "colours", "latent", "shape"),
    [
        (8, 1, {}, (4, 1, 1)),
        (24, 3, {"channels": 2}, (2, 3, 3)),
        (32, 3, {"channels": 5, "downsampling": 16}, (5, 2, 2)),
    ],
)
def test_shapes_and_gradients(size: int, colours: int, latent: dict, shape: tuple):
    image = grid_image(size, colours, **latent)
    assert (image.latent_shape, image.latent_dim) == (shape, math.prod(shape))
    x = torch.rand(3, colours, size, size)
    autoencoder = image.autoencoder()
    loss = autoencoder.loss(autoencoder.encode(x), x)
    assert loss.shape == (3,)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in autoencoder.parameters())
    z = autoencoder.eval().encode(x)
    assert z.shape == (3, math.prod(shape))
    assert autoencoder.decode(z).shape == x.shape


def test_a_latent_is_local():
    """The latent of a corner does not change with the pixels of the opposite one."""
    image = grid_image(96)
    autoencoder, x = image.autoencoder().eval(), torch.rand(1, 1, 96, 96)
    # Group normalisation sees the image as one: without it, a position sees a neighbourhood alone.
    for module in autoencoder.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.forward = torch.nn.Identity().forward  # type: ignore[method-assign]
    changed = x.clone()
    changed[..., -8:, -8:] = 0
    difference = (autoencoder.encode(changed) - autoencoder.encode(x)).view(4, 12, 12).abs().sum(0)
    assert difference[-1, -1] > 0
    assert difference[:6, :6].max() == 0


def test_latents_are_on_spheres_and_noisy_in_training():
    image, x = grid_image(32), digits("train", 8, 32)
    autoencoder = image.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        noise = (autoencoder.train().encode(x) - z).std()
        autoencoder.eval()
        assert torch.equal(autoencoder.encode(x), z)
        torch.testing.assert_close(autoencoder.decode(4 * z), autoencoder.decode(z))
    power = z.view(8, *image.latent_shape).square().mean(1)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=1e-3, atol=0)
    assert abs(noise - LATENT_NOISE_STD) < 0.1 * LATENT_NOISE_STD


def test_loss_is_of_pixels_and_gradients():
    autoencoder, x = grid_image().autoencoder().eval(), digits("train", 2)
    z = torch.randn(2, 16, generator=Generator().manual_seed(0))
    error, expected = autoencoder.decode(z) - x, 0.0
    for scale in range(3):
        rows, columns = error[..., 1:, :] - error[..., :-1, :], error[..., 1:] - error[..., :-1]
        if scale == 0:
            expected = error.abs().sum((1, 2, 3))
        expected = expected + 4**scale / 3 * (
            rows.abs().sum((1, 2, 3)) + columns.abs().sum((1, 2, 3))
        )
        error = avg_pool2d(error, 2)
    torch.testing.assert_close(autoencoder.loss(z, x), expected / 0.05)


def test_networks_return_float32_under_autocast():
    autoencoder, x = grid_image().autoencoder(), digits("train", 4)
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(x)
        outputs = [z, autoencoder.decode(z), autoencoder.loss(z, x)]
    assert {output.dtype for output in outputs} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": {}, "latent_dim": 8}, "give one of latent_dim"),
        ({"latent_dim": None}, "give one of latent_dim"),
        ({"latent": {}, "size": 100}, "set size to 96 or 104"),
        ({"latent": {"downsampling": 16}, "size": 8}, "set size to 16"),
        ({"latent": {"downsampling": 4}}, "latent.downsampling"),
        ({"latent": {"channels": 1}}, "latent.channels"),
        ({"latent": {"side": 4}}, "latent.side"),
    ],
)
def test_invalid_latent(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        ImageConfig.model_validate(settings)


def test_a_vector_is_the_default_and_its_config_is_as_before():
    assert ImageConfig().model_dump() == {"latent_dim": 64, "size": 32, "channels": 3}
    assert ImageModality(ImageConfig(size=128)).latent_shape == (64,)


def test_config_round_trip():
    config = grid_image().config
    assert config.latent_dim is None
    assert ImageConfig.model_validate(config.model_dump()) == config
    assert ImageConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.slow
@pytest.mark.long
def test_reconstructs_held_out_digits(train_autoencoder):
    torch.manual_seed(0)
    autoencoder, test = grid_image(32).autoencoder(), digits("test", 40, 32)
    train_autoencoder(autoencoder, digits("train", 500, 32), 60, learning_rate=2e-3)
    with torch.no_grad():
        z = autoencoder.encode(test)
        noisy = z + 0.1 * torch.randn_like(z)
        reached = psnr(autoencoder.decode(z), test)
        assert reached > 18
        assert psnr(autoencoder.decode(noisy), test) > reached - 0.5
