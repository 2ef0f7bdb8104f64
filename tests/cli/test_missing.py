"""Cells that an experiment leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mld.config.plugin_sections import MissingSpec
from mld.config.sections import DiffuseSpec
from mld.data.missingness import DatasetWithMissingCells
from mld.pipeline.diffuse import Denoising
from mld_core import DataError, Dataset, DatasetConfig, Split
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.schedule import VPSchedule

ROWS = 4000


class Ten(Dataset):
    """Rows that hold their own number."""

    kind = "ten"
    Config = DatasetConfig
    columns = {"left": "numbers", "right": "numbers"}  # noqa: RUF012
    classes = tuple("0123456789")

    def split(self, name: Any) -> Split:
        rows = list(range(ROWS))
        labels = [row % 10 for row in rows] if self.classes else None
        return Split([f"{name}-{row}" for row in rows], {"left": rows, "right": rows}, labels)


def thinned(seed: int = 0, **missing: Any) -> Dataset:
    return DatasetWithMissingCells(
        Ten(DatasetConfig(), {}, seed), MissingSpec.model_validate(missing)
    )


def gaps(dataset: Dataset, column: str, split: Any = "train") -> torch.Tensor:
    return torch.tensor([cell is None for cell in dataset.split(split).items[column]])


def test_cells_go_missing_at_their_rate_and_the_others_stay() -> None:
    dataset = thinned(rate={"left": 0.25})
    left = dataset.split("train").items["left"]
    assert float(gaps(dataset, "left").double().mean()) == pytest.approx(0.25, abs=0.03)
    assert all(cell in (None, row) for row, cell in enumerate(left))
    assert not bool(gaps(dataset, "right").any())


def test_test_rows_stay_whole() -> None:
    assert not bool(gaps(thinned(rate=0.9), "left", "test").any())
    assert bool(gaps(thinned(rate=0.9), "left", "validation").any())


def test_draws_follow_the_seed_and_the_name() -> None:
    base = gaps(thinned(rate=0.5), "left")
    assert torch.equal(base, gaps(thinned(rate=0.5), "left"))
    assert not torch.equal(base, gaps(thinned(rate=0.5), "right"))
    assert not torch.equal(base, gaps(thinned(1, rate=0.5), "left"))
    assert not torch.equal(base, gaps(thinned(rate=0.5), "left", "validation"))


def test_missing_by_label_rises_with_the_class_and_keeps_the_mean() -> None:
    missing = gaps(thinned(rate=0.4, mechanism="by-label"), "left").double().reshape(-1, 10)
    assert missing.mean(0).tolist() == pytest.approx([0.8 * c / 9 for c in range(10)], abs=0.1)
    assert float(missing.mean()) == pytest.approx(0.4, abs=0.03)


def test_missing_by_label_needs_labels() -> None:
    unlabelled = type("Unlabelled", (Ten,), {"classes": ()})(DatasetConfig(), {}, 0)
    with pytest.raises(DataError, match="needs labels, and dataset 'ten' has none"):
        DatasetWithMissingCells(unlabelled, MissingSpec(rate=0.1, mechanism="by-label"))


def test_the_fingerprint_tells_what_is_left_out() -> None:
    prints = {thinned(rate=rate).fingerprint() for rate in (0.0, 0.1, 0.2)}
    assert len(prints) == 3
    assert Ten(DatasetConfig(), {}, 0).fingerprint() not in prints


def test_incomplete_rows_are_drawn_by_what_they_teach_and_whole_ones_evenly() -> None:
    layout = LatentLayout({"left": 1, "right": 1})
    objective = Denoising(DiffuseSpec(), layout, VPSchedule(), torch.nn.Identity())
    whole = torch.ones(3, 2, dtype=torch.bool)
    assert objective.sampling_weights({"present": whole}) is None
    present = torch.tensor([[True, False], [True, True], [False, True]])
    sampling_weights = objective.sampling_weights({"present": present})
    assert sampling_weights is not None
    assert sampling_weights.tolist() == [1, 5, 1]
