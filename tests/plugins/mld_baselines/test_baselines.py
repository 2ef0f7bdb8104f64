from __future__ import annotations

import copy
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mld_core import Autoencoder, JointModel, Modality, ModalityConfig, Registry

if find_spec("multivae") is None:
    pytest.skip("multivae is not installed (extra: baselines)", allow_module_level=True)

KINDS = ["mvae", "mmvae", "mopoe", "mvtcae", "mmvae-plus"]
PRODUCTS = ["mvae", "mopoe", "mvtcae"]
MIXTURES = ["mmvae", "mmvae-plus"]
SHARED_DIM = 3


class WaveAutoencoder(Autoencoder):
    """Four numbers; linear encoder and decoder, Gaussian errors."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 2), nn.Linear(2, 4)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        return ((self.decode(z) - x) ** 2).sum(1) / 2


class WordAutoencoder(Autoencoder):
    """Two token ids below 3, like text."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 5), nn.Linear(5, 6)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(F.one_hot(x, 3).flatten(1).float())

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).unflatten(1, (2, 3)).argmax(2)

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        logits = self.decoder(z).unflatten(1, (2, 3))
        return (
            F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(-1, 2).sum(1)
        )


class Toy(Modality):
    """A modality of which only the autoencoder is used."""

    Config = ModalityConfig
    read = preprocess = classifier = write = examples = None

    def autoencoder(self) -> Autoencoder:
        return WordAutoencoder() if self.config.latent_dim == 5 else WaveAutoencoder()


MODALITIES = {"wave": Toy(ModalityConfig(latent_dim=2)), "word": Toy(ModalityConfig(latent_dim=5))}
WAVES = {"low": MODALITIES["wave"], "high": MODALITIES["wave"]}


def make_model(
    kind: str, modalities: dict[str, Modality] = MODALITIES, **config: object
) -> JointModel:
    torch.manual_seed(0)
    method = Registry().method(kind)
    autoencoders = {name: modality.autoencoder() for name, modality in modalities.items()}
    return method(method.Config(latent_dim=SHARED_DIM, **config), modalities).model(autoencoders)


def rows(n: int) -> tuple[dict[str, Tensor], Tensor]:
    """Items in which both modalities show the label, 0 or 1, and the labels."""
    labels = torch.arange(n) % 2
    wave = (4.0 * labels - 2)[:, None] + 0.1 * torch.randn(n, 4)
    return {"wave": wave, "word": torch.stack([labels, 2 - labels], 1)}, labels


def all_present(n: int, modalities: int = 2) -> Tensor:
    return torch.ones(n, modalities, dtype=torch.bool)


def train(model: JointModel, steps: int) -> list[float]:
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(steps):
        items, _labels = rows(64)
        loss = model.loss(items, all_present(64))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_loss_and_updates_all(kind: str) -> None:
    model = make_model(kind, beta=0.5)
    losses = train(model, 40)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    untrained = {
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    }
    assert not untrained


@pytest.mark.parametrize("kind", KINDS)
def test_samples_agree_with_given(kind: str) -> None:
    model = make_model(kind, beta=1.0)
    train(model, 150)
    items, labels = rows(200)

    def words(latents: dict[str, Tensor]) -> Tensor:
        return model.autoencoders["word"].decode(latents["word"])[:, 0]

    def waves(latents: dict[str, Tensor]) -> Tensor:
        return (model.autoencoders["wave"].decode(latents["wave"]).mean(1) > 0).long()

    sampled = words(model.sample({"wave": items["wave"]}, ["word"], 200))
    assert (sampled == labels).float().mean() > 0.85
    sampled = waves(model.sample({"word": items["word"]}, ["wave"], 200))
    assert (sampled == labels).float().mean() > 0.85
    joint = model.sample({}, ["wave", "word"], 200)
    assert (words(joint) == waves(joint)).float().mean() > 0.75


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_latent_dim_and_follow_seed(kind: str, n: int) -> None:
    model = make_model(kind)
    items, _labels = rows(n)

    def sample() -> list[dict[str, Tensor]]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return [
                model.sample({}, ["wave", "word"], n),
                model.sample({"word": items["word"]}, ["wave"], n),
                model.sample(items, ["word", "wave"], n),
            ]

    first = sample()
    for latents, again in zip(first, sample(), strict=True):
        assert {name: tuple(z.shape) for name, z in latents.items()} == {
            name: (n, MODALITIES[name].config.latent_dim) for name in latents
        }
        assert all(torch.equal(latents[name], again[name]) for name in latents)
    assert not any(z.requires_grad for z in first[0].values())


@pytest.mark.parametrize("kind", KINDS)
def test_missing_cell_has_no_influence(kind: str) -> None:
    model = make_model(kind, samples=2) if kind in MIXTURES else make_model(kind)
    items, _labels = rows(6)
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0], [1, 1], [0, 1]]).bool()

    def loss_and_gradients(wave: float, word: int) -> list[Tensor]:
        filled = {
            "wave": torch.where(present[:, :1], items["wave"], wave),
            "word": torch.where(present[:, 1:], items["word"], word),
        }
        torch.manual_seed(1)
        model.zero_grad()
        loss = model.loss(filled, present)
        loss.backward()
        return [loss, *(w.grad for w in model.parameters() if w.grad is not None)]

    first, second = loss_and_gradients(0.0, 0), loss_and_gradients(50.0, 2)
    assert all(value.isfinite().all() for value in first)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_modality_missing_from_batch(kind: str) -> None:
    model = make_model(kind)
    items, _labels = rows(6)
    present = all_present(6)
    present[:, 1] = False
    loss = model.loss({**items, "word": torch.zeros_like(items["word"])}, present)
    loss.backward()
    grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_the_same_without_gradient(kind: str) -> None:
    model = make_model(kind)
    items, _labels = rows(6)

    def loss() -> Tensor:
        torch.manual_seed(1)
        return model.loss(items, all_present(6))

    with_gradient = loss()
    with torch.inference_mode():
        torch.testing.assert_close(loss(), with_gradient.detach())
    loss().backward()


def experts(model: JointModel, items: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of each modality's posterior of the first row."""
    posteriors = [
        encoder(items[name][:1])
        for name, encoder in zip(items, model.vae.encoders.values(), strict=True)
    ]
    means = torch.cat([posterior.embedding for posterior in posteriors])
    return means, torch.cat([posterior.log_covariance for posterior in posteriors]).exp()


def product(means: Tensor, variances: Tensor, prior: bool) -> tuple[Tensor, Tensor]:
    """Product of Gaussians; with the standard one if `prior`."""
    precision = (1 / variances).sum(0) + prior
    return (means / variances).sum(0) / precision, 1 / precision


def kl_divergence(
    mean: Tensor, variance: Tensor, other: tuple[Tensor, Tensor] | None = None
) -> float:
    """KL divergence of a Gaussian from another; by default from the standard one."""
    to_mean, to_variance = other or (torch.zeros_like(mean), torch.ones_like(mean))
    ratio = variance / to_variance
    terms = ratio + (mean - to_mean) ** 2 / to_variance - 1 - ratio.log()
    return float(terms.sum() / 2)


def mean_nll(model: JointModel, key: str, x: Tensor, mean: Tensor, variance: Tensor) -> float:
    """Mean of −log p(x | z) over a Gaussian z, through two linear layers."""
    decoder = model.vae.decoders[key]
    linear = decoder.autoencoder[0].decoder
    weight = linear.weight @ decoder.head.weight
    error = linear(decoder.head(mean)) - x
    return float((error**2).sum() + (weight**2 * variance).sum()) / 2


@torch.no_grad()
def expected_loss(kind: str, model: JointModel, items: dict[str, Tensor], beta: float) -> float:
    """The objective of the paper, in closed form."""
    means, variances = experts(model, items)
    x = [item[0] for item in items.values()]

    def bound(posterior: tuple[Tensor, Tensor], keys: list[int]) -> float:
        nll = sum(mean_nll(model, str(key), x[key], *posterior) for key in keys)
        return nll + beta * kl_divergence(*posterior)

    singles = [(means[key], variances[key]) for key in (0, 1)]
    if kind == "mvae":
        joint = bound(product(means, variances, True), [0, 1])
        products = [product(means[[key]], variances[[key]], True) for key in (0, 1)]
        return joint + sum(bound(single, [key]) for key, single in enumerate(products))
    if kind == "mopoe":
        posteriors = [*singles, product(means, variances, True)]
        return sum(bound(posterior, [0, 1]) for posterior in posteriors) / 3
    posterior, alpha = product(means, variances, False), 5 / 6
    nll = sum(mean_nll(model, str(key), x[key], *posterior) for key in (0, 1))
    from_singles = sum(kl_divergence(*posterior, single) for single in singles)
    divergences = alpha / 2 * from_singles + (1 - alpha) * kl_divergence(*posterior)
    return (1 - alpha / 2) * nll + beta * divergences


@pytest.mark.parametrize("kind", PRODUCTS)
def test_loss_is_the_objective_of_the_paper(kind: str) -> None:
    beta, n = 1.5, 30_000
    model = make_model(kind, WAVES, beta=beta)
    items = {name: torch.randn(1, 4).expand(n, 4) for name in WAVES}
    with torch.no_grad():
        loss = float(model.loss(items, all_present(n)))
    assert loss == pytest.approx(expected_loss(kind, model, items, beta), rel=0.01)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_sample_follows_product_of_posteriors(kind: str) -> None:
    n = 30_000
    model = make_model(kind, {**WAVES, "word": MODALITIES["word"]})
    given = {name: torch.randn(1, 4).expand(n, 4) for name in WAVES}
    latents = model.sample(given, ["word"], n)["word"]
    with torch.no_grad():
        items = {**given, "word": torch.zeros(n, 2).long()}
        means, variances = (values[:2] for values in experts(model, items))
        mean, variance = product(means, variances, prior=kind == "mvae")
        head = model.vae.decoders["2"].head
        torch.testing.assert_close(latents.mean(0), head(mean), rtol=0.02, atol=0.02)
        covariance = head.weight @ variance.diag() @ head.weight.T
        torch.testing.assert_close(latents.T.cov(), covariance, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", MIXTURES)
def test_mixture_row_follows_one_given_modality(kind: str) -> None:
    model = make_model(kind, {**WAVES, "word": MODALITIES["word"]})
    for key, mean in (("0", -100.0), ("1", 100.0)):
        nn.init.constant_(model.vae.encoders[key].head.bias[:SHARED_DIM], mean)
    given = {name: torch.zeros(400, 4) for name in WAVES}
    shared = model._sample_posterior(given, 400)
    high = (shared.z.mean(1) > 0).float().mean()
    assert high == pytest.approx(0.5, abs=0.1)


def test_mopoe_trains_on_more_subsets_than_rows() -> None:
    model = make_model("mopoe", WAVES)
    for key, mean in (("0", -100.0), ("1", 100.0)):
        nn.init.constant_(model.vae.encoders[key].head.bias[:SHARED_DIM], mean)
        nn.init.zeros_(model.vae.encoders[key].head.weight)
    seen: list[Tensor] = []
    model.vae.decoders["0"].register_forward_pre_hook(lambda _, z: seen.append(z[0].mean(1)))
    for _ in range(200):
        model.loss({name: torch.zeros(2, 4) for name in WAVES}, all_present(2))
    for mean in (-100.0, 0.0, 100.0):
        share = ((torch.cat(seen) - mean).abs() < 20).float().mean()
        assert share == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("log_variance", [-1e3, 1e3])
def test_posterior_out_of_range_gives_nan_loss(kind: str, log_variance: float) -> None:
    model = make_model(kind, WAVES)
    width = SHARED_DIM + model.private_dim
    nn.init.constant_(model.vae.encoders["0"].head.bias[width:], log_variance)
    items = {name: torch.zeros(6, 4) for name in WAVES}
    assert model.loss(items, all_present(6)).isnan()


@pytest.mark.parametrize("kind", KINDS)
def test_latent_out_of_range_gives_nan_loss(kind: str) -> None:
    model = make_model(kind, WAVES)
    nn.init.constant_(model.vae.decoders["0"].head.bias, math.inf)
    items = {name: torch.zeros(6, 4) for name in WAVES}
    assert model.loss(items, all_present(6)).isnan()


def test_private_latents_are_independent() -> None:
    model = make_model("mmvae-plus", WAVES)
    for decoder in model.vae.decoders.values():
        nn.init.zeros_(decoder.head.weight)
        decoder.head.weight.data[0, 0] = decoder.head.weight.data[1, SHARED_DIM] = 1.0
    latents = model.sample({}, list(WAVES), 4_000)
    low, high = latents["low"], latents["high"]
    assert torch.corrcoef(torch.stack([low[:, 0], high[:, 0]]))[0, 1].item() > 0.999
    assert abs(torch.corrcoef(torch.stack([low[:, 1], high[:, 1]]))[0, 1].item()) < 0.08


def test_likelihood_weights() -> None:
    vae = make_model("mvtcae").vae
    assert vae.rescale_factors == {"0": 1.0, "1": 2.0}
    vae = make_model("mvtcae", rescale={"wave": 3.0}).vae
    assert vae.rescale_factors == {"0": 3.0, "1": 2.0}
    # The package's mixture ignores beta, so the likelihoods are divided by it.
    assert make_model("mmvae", beta=4.0).vae.rescale_factors == {"0": 0.25, "1": 0.5}


def test_invalid_modalities() -> None:
    method = Registry().method("mvae")
    with pytest.raises(
        ValueError, match="rescale names 'wav', but the modalities are 'wave', 'word'"
    ):
        method(method.Config(rescale={"wav": 1.0}), MODALITIES)
    with pytest.raises(ValueError, match="mvae needs at least two modalities, not 1"):
        method(method.Config(), {"wave": MODALITIES["wave"]})


@pytest.mark.parametrize("kind", KINDS)
def test_model_is_copied_and_restored(kind: str) -> None:
    model = make_model(kind)
    state = model.state_dict()
    assert len({weight.data_ptr() for weight in state.values()}) == len(state)
    clone = copy.deepcopy(model)
    items, _labels = rows(8)
    with torch.no_grad():
        for weight in clone.parameters():
            weight.zero_()
        clone.load_state_dict(state)
        for weight in model.parameters():
            weight.fill_(math.inf)
        assert clone.loss(items, all_present(8)).isfinite()
        assert model.loss(items, all_present(8)).isnan()


def test_package_is_imported_by_model_only(warm_python: Callable[..., Any]) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "import mld_baselines.mvae\n"
        "assert 'multivae' not in sys.modules\n"
        "import mld_baselines.model, logging\n"
        "logging.getLogger('multivae.models.base.base_ae_model').info('loud')\n"
    )
    result = warm_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
