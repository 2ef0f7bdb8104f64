from __future__ import annotations

import pytest
import torch

from mld_core import Registry
from mld_table.category import Category, CategoryConfig
from mld_table.category_networks import CategoryAutoencoder, code_points


def fitted(raw: list[str], **config: object) -> Category:
    settings = CategoryConfig.model_validate(config)
    return Category(settings, Category.fit(settings, raw))


def test_registry_finds_category():
    assert Registry().modality("category") is Category


def test_values_are_sorted_and_case_counts():
    modality = fitted(["b", "a", "B", "a"])
    assert modality.facts["values"] == ["B", "a", "b"]
    assert modality.latent_dim == 2
    assert modality.cell(modality.preprocess(modality.read(" a "))) == "a"


def test_listed_values_keep_their_order():
    modality = fitted(["low"], values=["low", "high"])
    assert modality.preprocess("high").tolist() == [1]
    assert modality.latent_dim == 1


@pytest.mark.parametrize("config", [{}, {"values": ["red", "green"]}])
def test_unknown_value(config: dict[str, object]):
    with pytest.raises(ValueError, match=r"\(values: .*\); did you mean 'green'\?: add it"):
        fitted(["red", "green"], **config).preprocess("grean")
    modality = fitted(["red", "green"], unknown="other", **config)
    assert modality.cell(modality.preprocess("grean")) == "other"


def test_most_frequent_values_are_kept():
    raw = ["a", "b", "b", "c", "c", "d"]
    with pytest.raises(ValueError, match="4 different values, more than max_values = 2"):
        fitted(raw, max_values=2)
    assert fitted(raw, max_values=2, unknown="other").facts["values"] == ["b", "c", "other"]


def test_a_value_called_other_is_that_value():
    assert fitted(["other", "a"], unknown="other").facts["values"] == ["a", "other"]


@pytest.mark.parametrize(
    ("raw", "config", "generated"),
    [
        (["a", "b"], {}, {"a", "b"}),
        (["a", "b"], {"values": ["a"]}, {"a", "other"}),
        (["a", "a", "b", "b", "c"], {"max_values": 2}, {"a", "b", "other"}),
        (["other", "a"], {}, {"a", "other"}),
    ],
)
def test_other_is_generated_only_if_training_rows_have_it(
    raw: list[str], config: dict[str, object], generated: set[str]
):
    modality = fitted(raw, unknown="other", **config)
    z = torch.randn(200, modality.latent_dim, generator=torch.Generator().manual_seed(0))
    decoded = modality.autoencoder().decode(3 * z)
    assert {modality.cell(x) for x in decoded} == generated


@pytest.mark.parametrize(
    ("raw", "message"), [("", "blank"), ("x" * 201, "201 characters"), (1.5, "not float")]
)
def test_raw_that_is_no_category(raw: object, message: str):
    with pytest.raises(ValueError, match=message):
        fitted(["a"]).preprocess(raw)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"values": ["a", "a"]}, "holds 'a' twice"),
        ({"values": [" a"]}, "white space"),
        ({"values": [""]}, "values"),
        ({"max_values": 1001}, "max_values"),
    ],
)
def test_invalid_config(config: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        CategoryConfig.model_validate(config)


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 20, 100, 1000])
@pytest.mark.parametrize("latent_dim", [1, 2, 5, 32])
def test_the_code_is_exact(classes: int, latent_dim: int):
    autoencoder = CategoryAutoencoder(classes, min(latent_dim, max(1, classes - 1)), classes)
    x = torch.arange(classes)[:, None]
    z = autoencoder.encode(x)
    assert torch.equal(autoencoder.decode(z), x)
    assert (autoencoder.loss(z, x) < 1e-2).all()
    assert not list(autoencoder.parameters())


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_all_classes_are_equally_far_apart(classes: int):
    points = code_points(classes, classes - 1)
    distances = torch.pdist(points).tolist()
    assert distances == pytest.approx([(2 * classes) ** 0.5] * len(distances))
    torch.testing.assert_close(points.mean(0), torch.zeros(classes - 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(points.square().mean(0), torch.ones(classes - 1))


def test_loss_is_the_negative_log_probability():
    autoencoder = CategoryAutoencoder(3, 2, 3)
    between = (autoencoder.points[0] + autoencoder.points[1])[None] / 2
    losses = [autoencoder.loss(between, torch.tensor([[x]])) for x in range(3)]
    assert torch.exp(-torch.cat(losses)).sum() == pytest.approx(1)
    assert losses[0] == pytest.approx(losses[1].item())
