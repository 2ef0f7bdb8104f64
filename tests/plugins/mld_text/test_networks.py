from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mld_text import Text, TextConfig
from mld_text.byte_tokens import END, VOCABULARY_SIZE, mask_up_to_end, to_text, to_tokens
from mld_text.metrics import exact_match


def text(**config: object) -> Text:
    return Text(TextConfig.model_validate(config))


def batch_of(*texts: str, max_bytes: int = 32) -> torch.Tensor:
    return torch.stack([to_tokens(text, max_bytes) for text in texts])


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("latent_dim", "max_bytes"), [(16, 32), (2, 1), (300, 100)])
def test_shapes(latent_dim: int, max_bytes: int):
    modality = text(latent_dim=latent_dim, max_bytes=max_bytes)
    x = batch_of("7", "", "8", max_bytes=max_bytes)
    autoencoder, classifier = modality.autoencoder(), modality.classifier(4)
    z = autoencoder.encode(x)
    assert z.shape == (3, latent_dim)
    decoded = autoencoder.decode(z)
    assert decoded.shape == x.shape
    assert decoded.dtype == x.dtype
    assert autoencoder.loss(z, x).shape == (3,)
    assert classifier(x).shape == (3, 4)
    assert classifier.features(x).shape == (3, 64)


def test_only_end_tokens_follow_the_first():
    autoencoder = text(latent_dim=4).autoencoder().eval()
    with torch.no_grad():
        autoencoder.logits[-1].bias[END] += 1
        decoded = autoencoder.decode(torch.randn(200, 4))
    lengths = mask_up_to_end(decoded).sum(1)
    assert (decoded[:, -1] == END).all()
    assert lengths.unique().numel() > 3
    assert (decoded[~mask_up_to_end(decoded)] == END).all()


def test_probabilities_of_all_texts_sum_to_one():
    autoencoder = text(latent_dim=4, max_bytes=1).autoencoder().eval()
    x = torch.stack(
        [torch.arange(VOCABULARY_SIZE), torch.zeros(VOCABULARY_SIZE, dtype=torch.int64)], dim=1
    )
    z = torch.randn(1, 4).expand(VOCABULARY_SIZE, 4)
    assert math.isclose(autoencoder.loss(z, x).neg().exp().sum().item(), 1, rel_tol=1e-4)


def test_loss_counts_every_token_up_to_the_end():
    autoencoder = text(latent_dim=4, max_bytes=8).autoencoder().eval()
    z = torch.randn(3, 4)
    with torch.no_grad():
        autoencoder.logits[-1].weight.zero_()
        nats = autoencoder.loss(z, batch_of("", "abc", "abcdefgh", max_bytes=8))
        bias = functional.log_softmax(autoencoder.logits[-1].bias, 0)
    letters = bias[[98, 99, 100, 101, 102, 103, 104, 105]]
    expected = [bias[END], letters[:3].sum() + bias[END], letters.sum()]
    torch.testing.assert_close(nats, -torch.stack(expected))


def test_encoding_is_noisy_only_in_training():
    autoencoder = text().autoencoder()
    x = batch_of("seven", "eight")
    assert not torch.equal(autoencoder.encode(x), autoencoder.encode(x))
    autoencoder.eval()
    z = autoencoder.encode(x)
    assert torch.equal(z, autoencoder.encode(x))
    torch.testing.assert_close(z.square().mean(1), torch.ones(2), rtol=1e-4, atol=0)


def test_scale_of_a_latent_does_not_matter():
    autoencoder = text().autoencoder().eval()
    z, x = torch.randn(5, 32), batch_of("a", "b", "c", "d", "e")
    assert torch.equal(autoencoder.decode(3 * z), autoencoder.decode(z))
    torch.testing.assert_close(autoencoder.loss(3 * z, x), autoencoder.loss(z, x))


def test_bf16_autocast():
    modality = text()
    autoencoder, classifier = modality.autoencoder().eval(), modality.classifier(10).eval()
    x = batch_of("seven", "七")
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(x)
        nats = autoencoder.loss(z, x)
        decoded, logits = autoencoder.decode(z), classifier(x)
    assert z.dtype == nats.dtype == torch.float32
    assert decoded.dtype == torch.int64
    torch.testing.assert_close(z, autoencoder.encode(x), rtol=0, atol=0.1)
    torch.testing.assert_close(logits.float(), classifier(x), rtol=0, atol=0.05)


def test_memorises_texts_in_any_language(train_autoencoder):
    texts = ["seven", "", "七月七日", "🎲🎲", "e\u0301", "x" * 32]
    x = batch_of(*texts)
    autoencoder = text().autoencoder()
    train_autoencoder(autoencoder, x, 150, learning_rate=3e-3)
    assert [to_text(tokens) for tokens in autoencoder.decode(autoencoder.encode(x))] == texts


@pytest.mark.slow
@pytest.mark.long
def test_reconstructs_held_out_phrases(train_autoencoder, train_classifier):
    modality, rng = text(), np.random.default_rng(0)
    labels, test_labels = rng.integers(0, 10, 4000), rng.integers(0, 10, 1000)
    x, y = batch_of(*modality.examples(labels, "train", rng)), torch.from_numpy(labels)
    test = batch_of(*modality.examples(test_labels, "test", rng))
    autoencoder, classifier = modality.autoencoder(), modality.classifier(10)
    train_autoencoder(autoencoder, x, 2000)
    train_classifier(classifier, x, y, 1000)
    with torch.no_grad():
        z = autoencoder.encode(test)
        noisy = z + 0.2 * z.std(0) * torch.randn_like(z)
        accuracy = [
            (classifier(items).argmax(1) == torch.from_numpy(test_labels)).float().mean().item()
            for items in (test, autoencoder.decode(z), autoencoder.decode(noisy))
        ]
    assert accuracy[0] >= 0.99
    assert accuracy[1] >= 0.98
    assert accuracy[2] >= 0.95
    assert exact_match(autoencoder.decode(z), test) >= 0.9
