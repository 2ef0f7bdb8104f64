from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mld_audio import Audio, AudioConfig
from mld_audio.sequence_networks import LATENT_NOISE_STD


def tones(audio: Audio, labels: list[int]) -> Tensor:
    raw = audio.examples(labels, "test", np.random.default_rng(0))
    return torch.stack([audio.preprocess(sound) for sound in raw])


def test_shapes_and_dtypes(any_audio: Audio):
    x = tones(any_audio, [1, 2, 3])
    autoencoder, classifier = any_audio.autoencoder(), any_audio.classifier(7)
    for low_precision in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
            z = autoencoder.encode(x)
            decoded, loss = autoencoder.decode(z), autoencoder.loss(z, x)
            features, logits = classifier.features(x), classifier(x)
        shapes = [(3, any_audio.latent_dim), tuple(x.shape), (3,), (3, 64), (3, 7)]
        for tensor, shape in zip((z, decoded, loss, features, logits), shapes, strict=True):
            assert tensor.shape == shape
            assert tensor.dtype == torch.float32


def test_every_parameter_has_a_gradient(any_audio: Audio):
    x = tones(any_audio, [1, 2])
    autoencoder, classifier = any_audio.autoencoder(), any_audio.classifier(10)
    autoencoder.loss(autoencoder.encode(x), x).mean().backward()
    nn.functional.cross_entropy(classifier(x), torch.tensor([1, 2])).backward()
    for network in (autoencoder, classifier):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_latents_are_bounded_and_noisy_in_training(audio: Audio):
    x = tones(audio, list(range(10)))
    autoencoder = audio.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        assert (z.square().mean(1) < 1).all()
        assert not torch.equal(autoencoder.train().encode(x), autoencoder.encode(x))


def test_loss_is_a_gaussian_log_likelihood(audio: Audio):
    autoencoder = audio.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(tones(audio, [1, 2]))
        decoded = autoencoder.decode(z)
        assert (decoded.abs() < 1).all()
        shifted = decoded + 5.57 / 40
        expected = torch.distributions.Normal(0, 5.57 / 40)
        nats = expected.log_prob(torch.tensor(0.0)) - expected.log_prob(torch.tensor(5.57 / 40))
        difference = autoencoder.loss(z, shifted) - autoencoder.loss(z, decoded)
    torch.testing.assert_close(difference, nats.expand(2) * 64 * 32)


def test_a_sequence_of_latents_is_on_spheres_and_noisy_in_training():
    settings = {"seconds": 0.5, "width": 16, "latent": {"channels": 4, "downsampling": 8}}
    audio = Audio(AudioConfig.model_validate(settings))
    assert audio.latent_shape == (4, 4)
    x = tones(audio, list(range(10)))
    autoencoder = audio.autoencoder().eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        noise = (autoencoder.train().encode(x) - z).std()
        autoencoder.eval()
        torch.testing.assert_close(autoencoder.decode(4 * z), autoencoder.decode(z))
    power = z.view(10, 4, 4).square().mean(2)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=1e-4, atol=0)
    assert abs(noise - LATENT_NOISE_STD) < 0.2 * LATENT_NOISE_STD


def test_ten_seconds_are_a_sequence():
    settings = {"seconds": 10, "sample_rate": 16_000, "n_fft": 1024, "hop": 256, "width": 16}
    audio = Audio(AudioConfig.model_validate({**settings, "latent": {}}))
    assert audio.latent_shape == (157, 32)
    autoencoder, x = audio.autoencoder().eval(), torch.rand(1, 64, 626)
    with torch.no_grad():
        assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape


def test_a_sequence_and_a_vector_exclude_each_other():
    with pytest.raises(ValidationError, match="give one of latent_dim"):
        AudioConfig.model_validate({"latent_dim": 8, "latent": {}})
