"""Memorisation of a run's joint samples, from samples that are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from mld.data.types import LatentCache, SplitLatents
from mld.evaluation.memorisation import memorisation, memorisation_warnings
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser

LAYOUT = LatentLayout.of_vectors({"a": 3, "b": 2})


def latents_of(train_rows: int, test_rows: int) -> LatentCache:
    """Normal latents; `b` is missing in every other row, and one coordinate of `a` is constant."""

    def split(rows: int) -> SplitLatents:
        present = torch.ones(rows, 2).bool()
        present[1::2, 1] = False
        z = torch.where(LAYOUT.expand(present), torch.randn(rows, 5) * 10, 0.0)
        z[:, 1] = 7.0
        return SplitLatents(z, present)

    train, test = split(train_rows), split(test_rows)
    standardiser = Standardiser.fit(train.z, train.present, LAYOUT)
    return LatentCache(LAYOUT, train, test, test, standardiser)


class Keeps(nn.Module):
    def encode(self, x: Tensor) -> Tensor:
        return x


def evaluator(dim: int) -> Any:
    """Of an autoencoder that keeps its items."""
    return SimpleNamespace(autoencoder=Keeps(), latent_dim=dim)


def scores_of(latents: LatentCache, items: dict[str, Tensor]) -> dict[str, Any]:
    return memorisation({"a": evaluator(3), "b": evaluator(2)}, items, latents, "test")


def test_copies_are_warned_of_and_new_samples_are_not() -> None:
    latents = latents_of(200, 80)
    new = torch.randn(100, 3) * 10
    new[:, 1] = 7.0
    copies = latents.train.z[latents.train.present[:, 1], 3:]
    scores = scores_of(latents, {"a": new, "b": copies})
    assert scores["a"]["low"] < 0.5 < scores["a"]["high"]
    assert (scores["b"]["value"], scores["b"]["sample_distance"]) == (1, 0)
    assert (scores["a"]["training_rows"], scores["b"]["training_rows"]) == (200, 100)
    (warning,) = memorisation_warnings(scores)
    assert warning.startswith("Samples of b lie nearer to training items")


def test_modalities_without_samples_or_held_out_items_are_left_out() -> None:
    assert scores_of(latents_of(20, 10), {}) == {}
    items = {"a": torch.randn(5, 3), "b": torch.randn(5, 2)}
    assert [*scores_of(latents_of(20, 2), items)] == ["a"]  # b is in one test row
