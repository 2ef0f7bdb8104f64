from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mld_text import Text, TextConfig
from mld_text.byte_tokens import END, VOCABULARY_SIZE, mask_up_to_end, to_text, to_tokens
from mld_text.networks import LATENT_NOISE_STD


def text(max_bytes: int = 32, **latent: int) -> Text:
    return Text(TextConfig.model_validate({"max_bytes": max_bytes, "latent": latent}))


def batch_of(*texts: str, max_bytes: int = 32) -> torch.Tensor:
    return torch.stack([to_tokens(text, max_bytes) for text in texts])


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("max_bytes", "latent", "shape"),
    [
        (32, {}, (8, 16)),
        (1, {"channels": 2}, (1, 2)),
        (37, {"downsampling": 5, "channels": 3}, (8, 3)),
        (1024, {"downsampling": 8}, (128, 16)),
    ],
)
def test_shapes_and_gradients(max_bytes: int, latent: dict[str, int], shape: tuple[int, int]):
    modality = text(max_bytes, **latent)
    assert (modality.latent_shape, modality.latent_dim) == (shape, math.prod(shape))
    x = batch_of("7", "", "8" * max_bytes, max_bytes=max_bytes)
    autoencoder = modality.autoencoder()
    loss = autoencoder.loss(autoencoder.encode(x), x)
    assert loss.shape == (3,)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in autoencoder.parameters())
    z = autoencoder.eval().encode(x)
    assert z.shape == (3, math.prod(shape))
    decoded = autoencoder.decode(z)
    assert (decoded.shape, decoded.dtype) == (x.shape, x.dtype)


def test_latents_are_on_spheres_and_noisy_in_training():
    modality, x = text(), batch_of("seven", "eight", "nine", "ten")
    autoencoder = modality.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        noise = (autoencoder.train().encode(x) - z).std()
        autoencoder.eval()
        assert torch.equal(autoencoder.encode(x), z)
        torch.testing.assert_close(autoencoder.loss(3 * z, x), autoencoder.loss(z, x))
    power = z.view(4, 8, 16).square().mean(2)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=1e-4, atol=0)
    assert abs(noise - LATENT_NOISE_STD) < 0.2 * LATENT_NOISE_STD


def test_only_end_tokens_follow_the_first():
    autoencoder = text().autoencoder().eval()
    with torch.no_grad():
        autoencoder.logits[-1].bias[END] += 1
        decoded = autoencoder.decode(torch.randn(100, 128))
    assert mask_up_to_end(decoded).sum(1).unique().numel() > 3
    assert (decoded[~mask_up_to_end(decoded)] == END).all()
    assert (decoded[:, -1] == END).all()


def test_probabilities_of_all_texts_sum_to_one():
    autoencoder = text(1).autoencoder().eval()
    every_byte = torch.arange(VOCABULARY_SIZE)
    x = torch.stack([every_byte, torch.zeros_like(every_byte)], dim=1)
    with torch.no_grad():
        nats = autoencoder.loss(torch.randn(1, 16).expand(len(x), -1), x)
    assert math.isclose(nats.neg().exp().sum().item(), 1, rel_tol=1e-4)


def test_training_also_learns_scrambled_texts():
    autoencoder, x = text().autoencoder(), batch_of(*["seven"] * 8)
    with torch.no_grad():
        z = autoencoder.encode(x)
        extra = autoencoder.loss(z, x) - autoencoder.eval().loss(z, x)
    assert (extra[:2] > 1).all()
    torch.testing.assert_close(extra[2:], torch.zeros(6), rtol=0, atol=1e-4)


def test_a_sequence_and_a_vector_exclude_each_other():
    with pytest.raises(ValidationError, match="give one of latent_dim"):
        TextConfig.model_validate({"latent_dim": 8, "latent": {}})
    assert TextConfig().model_dump().keys() == {"latent_dim", "max_bytes", "too_long"}


@pytest.mark.slow
@pytest.mark.long
def test_texts_that_were_never_seen_come_back(train_autoencoder):
    modality, rng = text(), np.random.default_rng(0)
    x = batch_of(*modality.examples(rng.integers(0, 10, 1000), "train", rng))
    texts = modality.examples(rng.integers(0, 10, 200), "test", rng)
    autoencoder = modality.autoencoder()
    train_autoencoder(autoencoder, x, 150, learning_rate=2e-3)
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(batch_of(*texts)))
    exact = sum(map(str.__eq__, map(to_text, decoded), texts)) / len(texts)
    assert exact > 0.9
