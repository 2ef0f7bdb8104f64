from __future__ import annotations

import numpy as np
import pytest

from mld_core import Modality, ModalityConfig, PluginError, Registry
from mld_datasets.examples import Examples, ExamplesConfig


class Word(Modality):
    """Examples are random strings that begin with split and label."""

    kind = "word"
    Config = ModalityConfig
    read = preprocess = autoencoder = classifier = write = None

    def examples(self, labels, split, rng):
        if self.config.latent_dim == 99:
            raise KeyError("lost")
        served = labels[:-1] if self.config.latent_dim == 98 else labels
        return [f"{split}{label}-{rng.integers(10**9)}" for label in served]


WORD = Word(ModalityConfig(latent_dim=1))


def make_examples(*names: str, seed: int = 0, **sizes: int) -> Examples:
    return Examples(ExamplesConfig(**sizes), dict.fromkeys(names, WORD), seed)


def test_dataset_is_installed():
    assert Registry().dataset("examples") is Examples


def test_examples_are_balanced_and_sized():
    dataset = make_examples("a", train=200, validation=31, test=10)
    assert dataset.columns == {"a": "word"}
    assert dataset.classes == [str(digit) for digit in range(10)]
    train, validation = dataset.split("train"), dataset.split("validation")
    assert np.bincount(train.labels).tolist() == [20] * 10
    assert sorted(np.bincount(validation.labels).tolist()) == [3] * 9 + [4]
    assert train.labels != sorted(train.labels)
    assert [len(train.ids), len(train.items["a"]), len(dataset.split("test").ids)] == [200, 200, 10]
    assert [item.split("-")[0] for item in train.items["a"]] == [f"train{n}" for n in train.labels]


def test_examples_are_reproducible():
    first, second = (make_examples("a", train=20).split("train") for _ in range(2))
    assert first.labels == second.labels
    assert list(first.items["a"]) == list(second.items["a"])
    assert len(set(first.ids)) == 20


def test_columns_are_independent():
    alone, both = make_examples("b", train=20), make_examples("a", "b", train=20)
    assert list(alone.split("train").items["b"]) == list(both.split("train").items["b"])
    assert list(both.split("train").items["a"]) != list(both.split("train").items["b"])


def test_seed_and_split_change_examples():
    draws = [
        make_examples("a", seed=seed, train=20, test=20).split(split)
        for seed, split in [(0, "train"), (1, "train"), (0, "test")]
    ]
    assert len({tuple(draw.labels) for draw in draws}) == 3
    numbers = [[item.split("-")[1] for item in draw.items["a"]] for draw in draws]
    assert len({tuple(column) for column in numbers}) == 3


@pytest.mark.parametrize(
    ("latent_dim", "expected"),
    [
        (99, "kind 'word': examples for the train split failed: KeyError: 'lost'"),
        (98, "kind 'word': examples for the train split returned 3 items for 4 labels"),
    ],
)
def test_error_in_examples_names_plugin(latent_dim, expected):
    word = Word(ModalityConfig(latent_dim=latent_dim))
    items = Examples(ExamplesConfig(train=4), {"a": word}, 0).split("train").items["a"]
    assert len(items) == 4
    with pytest.raises(PluginError) as caught:
        _ = items[0]
    assert str(caught.value) == expected
