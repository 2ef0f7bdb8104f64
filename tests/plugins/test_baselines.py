from __future__ import annotations

import copy
import math
import subprocess
import sys
from importlib.util import find_spec

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
SHARED = 3


class WaveAutoencoder(Autoencoder):
    """Four numbers, linear both ways, with Gaussian errors."""

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
    """Two whole numbers below 3, as text would be."""

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
    """Nothing but its networks."""

    Config = ModalityConfig
    read = preprocess = classifier = write = examples = None

    def autoencoder(self) -> Autoencoder:
        return WordAutoencoder() if self.config.latent_dim == 5 else WaveAutoencoder()


WORLD = {"wave": Toy(ModalityConfig(latent_dim=2)), "word": Toy(ModalityConfig(latent_dim=5))}
WAVES = {"low": WORLD["wave"], "high": WORLD["wave"]}


def model_of(kind: str, world: dict[str, Modality] = WORLD, **config: object) -> JointModel:
    torch.manual_seed(0)
    method = Registry().method(kind)
    autoencoders = {name: modality.autoencoder() for name, modality in world.items()}
    return method(method.Config(latent_dim=SHARED, **config), world).model(autoencoders)


def rows(n: int) -> tuple[dict[str, Tensor], Tensor]:
    """Items in which both modalities show the label, 0 or 1, and the labels."""
    labels = torch.arange(n) % 2
    wave = (4.0 * labels - 2)[:, None] + 0.1 * torch.randn(n, 4)
    return {"wave": wave, "word": torch.stack([labels, 2 - labels], 1)}, labels


def all_present(n: int, modalities: int = 2) -> Tensor:
    return torch.ones(n, modalities, dtype=torch.bool)


def losses(model: JointModel, steps: int) -> list[float]:
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    told = []
    for _ in range(steps):
        items, _labels = rows(64)
        loss = model.loss(items, all_present(64))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        told.append(loss.item())
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_reaches_every_parameter(kind: str) -> None:
    model = model_of(kind, beta=0.5)
    told = losses(model, 40)
    assert np.mean(told[-5:]) < 0.7 * np.mean(told[:5])
    without = {
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    }
    assert not without


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_shows_in_what_is_sampled(kind: str) -> None:
    model = model_of(kind, beta=1.0)
    losses(model, 300)
    items, labels = rows(200)

    def words(drawn: dict[str, Tensor]) -> Tensor:
        return model.autoencoders["word"].decode(drawn["word"])[:, 0]

    def waves(drawn: dict[str, Tensor]) -> Tensor:
        return (model.autoencoders["wave"].decode(drawn["wave"]).mean(1) > 0).long()

    told = words(model.sample({"wave": items["wave"]}, ["word"], 200))
    assert (told == labels).float().mean() > 0.85
    told = waves(model.sample({"word": items["word"]}, ["wave"], 200))
    assert (told == labels).float().mean() > 0.85
    joint = model.sample({}, ["wave", "word"], 200)
    assert (words(joint) == waves(joint)).float().mean() > 0.75


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_latents_widths_and_come_from_the_seed(kind: str, n: int) -> None:
    model = model_of(kind)
    items, _labels = rows(n)

    def sampled() -> list[dict[str, Tensor]]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return [
                model.sample({}, ["wave", "word"], n),
                model.sample({"word": items["word"]}, ["wave"], n),
                model.sample(items, ["word", "wave"], n),
            ]

    first = sampled()
    for drawn, again in zip(first, sampled(), strict=True):
        assert {name: tuple(z.shape) for name, z in drawn.items()} == {
            name: (n, WORLD[name].config.latent_dim) for name in drawn
        }
        assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    assert not any(z.requires_grad for z in first[0].values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_cell_has_no_influence(kind: str) -> None:
    model = model_of(kind, samples=2) if kind in MIXTURES else model_of(kind)
    items, _labels = rows(6)
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 0], [1, 1], [0, 1]]).bool()

    def outcome(wave: float, word: int) -> list[Tensor]:
        filled = {
            "wave": torch.where(present[:, :1], items["wave"], wave),
            "word": torch.where(present[:, 1:], items["word"], word),
        }
        torch.manual_seed(1)
        model.zero_grad()
        loss = model.loss(filled, present)
        loss.backward()
        return [loss, *(w.grad for w in model.parameters() if w.grad is not None)]

    first, second = outcome(0.0, 0), outcome(50.0, 2)
    assert all(told.isfinite().all() for told in first)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_modality_may_be_missing_from_a_whole_batch(kind: str) -> None:
    model = model_of(kind)
    items, _labels = rows(6)
    present = all_present(6)
    present[:, 1] = False
    loss = model.loss({**items, "word": torch.zeros_like(items["word"])}, present)
    loss.backward()
    grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_same_where_no_gradient_is_wanted(kind: str) -> None:
    model = model_of(kind)
    items, _labels = rows(6)

    def loss() -> Tensor:
        torch.manual_seed(1)
        return model.loss(items, all_present(6))

    with_gradient = loss()
    with torch.inference_mode():
        torch.testing.assert_close(loss(), with_gradient.detach())
    loss().backward()


def experts(model: JointModel, items: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The mean and the variance of each modality's posterior of the first row."""
    posteriors = [
        encoder(items[name][:1])
        for name, encoder in zip(items, model.vae.encoders.values(), strict=True)
    ]
    means = torch.cat([posterior.embedding for posterior in posteriors])
    return means, torch.cat([posterior.log_covariance for posterior in posteriors]).exp()


def product(means: Tensor, variances: Tensor, prior: bool) -> tuple[Tensor, Tensor]:
    """The product of Gaussians, with or without the standard one."""
    precision = (1 / variances).sum(0) + prior
    return (means / variances).sum(0) / precision, 1 / precision


def divergence(mean: Tensor, variance: Tensor, other: tuple[Tensor, Tensor] | None = None) -> float:
    """KL of one Gaussian from another, the standard one if none is named."""
    to_mean, to_variance = other or (torch.zeros_like(mean), torch.ones_like(mean))
    ratio = variance / to_variance
    terms = ratio + (mean - to_mean) ** 2 / to_variance - 1 - ratio.log()
    return float(terms.sum() / 2)


def misfit(model: JointModel, key: str, x: Tensor, mean: Tensor, variance: Tensor) -> float:
    """The mean of −log p(x | z) over a Gaussian z, through two linear layers."""
    decoder = model.vae.decoders[key]
    own = decoder.autoencoder[0].decoder
    weight = own.weight @ decoder.head.weight
    error = own(decoder.head(mean)) - x
    return float((error**2).sum() + (weight**2 * variance).sum()) / 2


@torch.no_grad()
def expected_loss(kind: str, model: JointModel, items: dict[str, Tensor], beta: float) -> float:
    """The objective as in the papers, integrated by hand."""
    means, variances = experts(model, items)
    x = [item[0] for item in items.values()]

    def bound(posterior: tuple[Tensor, Tensor], keys: list[int]) -> float:
        fit = sum(misfit(model, str(key), x[key], *posterior) for key in keys)
        return fit + beta * divergence(*posterior)

    alone = [(means[key], variances[key]) for key in (0, 1)]
    if kind == "mvae":
        singles = [product(means[[key]], variances[[key]], True) for key in (0, 1)]
        joint = bound(product(means, variances, True), [0, 1])
        return joint + sum(bound(own, [key]) for key, own in enumerate(singles))
    if kind == "mopoe":
        posteriors = [*alone, product(means, variances, True)]
        return sum(bound(posterior, [0, 1]) for posterior in posteriors) / 3
    posterior, alpha = product(means, variances, False), 5 / 6
    fit = sum(misfit(model, str(key), x[key], *posterior) for key in (0, 1))
    near = sum(divergence(*posterior, own) for own in alone)
    divergences = alpha / 2 * near + (1 - alpha) * divergence(*posterior)
    return (1 - alpha / 2) * fit + beta * divergences


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_loss_is_the_papers_objective(kind: str) -> None:
    beta, n = 1.5, 30_000
    model = model_of(kind, WAVES, beta=beta)
    items = {name: torch.randn(1, 4).expand(n, 4) for name in WAVES}
    with torch.no_grad():
        loss = float(model.loss(items, all_present(n)))
    assert loss == pytest.approx(expected_loss(kind, model, items, beta), rel=0.01)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_a_sample_follows_the_product_of_what_is_given(kind: str) -> None:
    n = 30_000
    model = model_of(kind, {**WAVES, "word": WORLD["word"]})
    given = {name: torch.randn(1, 4).expand(n, 4) for name in WAVES}
    drawn = model.sample(given, ["word"], n)["word"]
    with torch.no_grad():
        mean, variance = product(
            *(told[:2] for told in experts(model, {**given, "word": torch.zeros(n, 2).long()})),
            prior=kind == "mvae",
        )
        head = model.vae.decoders["2"].head
        torch.testing.assert_close(drawn.mean(0), head(mean), rtol=0.02, atol=0.02)
        covariance = head.weight @ variance.diag() @ head.weight.T
        torch.testing.assert_close(drawn.T.cov(), covariance, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", MIXTURES)
def test_each_row_of_a_mixture_follows_one_of_what_is_given(kind: str) -> None:
    model = model_of(kind, {**WAVES, "word": WORLD["word"]})
    for key, place in (("0", -100.0), ("1", 100.0)):
        nn.init.constant_(model.vae.encoders[key].head.bias[:SHARED], place)
    given = {name: torch.zeros(400, 4) for name in WAVES}
    embedding = model._posterior(given, 400)
    high = (embedding.z.mean(1) > 0).float().mean()
    assert high == pytest.approx(0.5, abs=0.1)


def test_mopoe_trains_on_every_subset_though_there_are_more_of_them_than_rows() -> None:
    model = model_of("mopoe", WAVES)
    for key, place in (("0", -100.0), ("1", 100.0)):
        nn.init.constant_(model.vae.encoders[key].head.bias[:SHARED], place)
        nn.init.zeros_(model.vae.encoders[key].head.weight)
    seen: list[Tensor] = []
    model.vae.decoders["0"].register_forward_pre_hook(lambda _, z: seen.append(z[0].mean(1)))
    for _ in range(200):
        model.loss({name: torch.zeros(2, 4) for name in WAVES}, all_present(2))
    for place in (-100.0, 0.0, 100.0):
        share = ((torch.cat(seen) - place).abs() < 20).float().mean()
        assert share == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("log_variance", [-1e3, 1e3])
def test_a_posterior_out_of_range_makes_the_loss_nan(kind: str, log_variance: float) -> None:
    model = model_of(kind, WAVES)
    width = SHARED + model.private
    nn.init.constant_(model.vae.encoders["0"].head.bias[width:], log_variance)
    items = {name: torch.zeros(6, 4) for name in WAVES}
    assert model.loss(items, all_present(6)).isnan()


@pytest.mark.parametrize("kind", KINDS)
def test_a_latent_out_of_range_makes_the_loss_nan(kind: str) -> None:
    model = model_of(kind, WAVES)
    nn.init.constant_(model.vae.decoders["0"].head.bias, math.inf)
    items = {name: torch.zeros(6, 4) for name in WAVES}
    assert model.loss(items, all_present(6)).isnan()


def test_jointly_the_shared_latent_is_common_and_the_private_ones_are_not() -> None:
    model = model_of("mmvae-plus", WAVES)
    for decoder in model.vae.decoders.values():
        nn.init.zeros_(decoder.head.weight)
        decoder.head.weight.data[0, 0] = decoder.head.weight.data[1, SHARED] = 1.0
    drawn = model.sample({}, list(WAVES), 4_000)
    low, high = drawn["low"], drawn["high"]
    assert torch.corrcoef(torch.stack([low[:, 0], high[:, 0]]))[0, 1].item() > 0.999
    assert abs(torch.corrcoef(torch.stack([low[:, 1], high[:, 1]]))[0, 1].item()) < 0.08


def test_likelihoods_weigh_by_size_unless_the_spec_says_so() -> None:
    vae = model_of("mvtcae").vae
    assert vae.rescale_factors == {"0": 1.0, "1": 2.0}
    vae = model_of("mvtcae", rescale={"wave": 3.0}).vae
    assert vae.rescale_factors == {"0": 3.0, "1": 2.0}
    # The package's mixture reads no beta: the likelihoods are divided by it.
    assert model_of("mmvae", beta=4.0).vae.rescale_factors == {"0": 0.25, "1": 0.5}


def test_modalities_that_a_rival_cannot_take_are_refused() -> None:
    method = Registry().method("mvae")
    with pytest.raises(
        ValueError, match="rescale names 'wav', and the modalities are 'wave', 'word'"
    ):
        method(method.Config(rescale={"wav": 1.0}), WORLD)
    with pytest.raises(ValueError, match="mvae needs two modalities or more"):
        method(method.Config(), {"wave": WORLD["wave"]})


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_can_be_copied_stored_and_loaded(kind: str) -> None:
    model = model_of(kind)
    held = model.state_dict()
    assert len({weight.data_ptr() for weight in held.values()}) == len(held)
    twin = copy.deepcopy(model)
    items, _labels = rows(8)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
        twin.load_state_dict(held)
        for weight in model.parameters():
            weight.fill_(math.inf)
        assert twin.loss(items, all_present(8)).isfinite()
        assert model.loss(items, all_present(8)).isnan()


def test_the_package_is_imported_for_a_model_alone_and_is_quiet() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "import mld_baselines.mvae\n"
        "assert 'multivae' not in sys.modules\n"
        "import mld_baselines.model, logging\n"
        "logging.getLogger('multivae.models.base.base_ae_model').info('loud')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
