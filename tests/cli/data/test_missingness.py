"""Cells that are left out of training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mld.config.plugin_sections import MissingSpec
from mld.config.sections import DiffuseSpec
from mld.data.missingness import DatasetWithMissingCells
from mld.pipeline.diffusion_method import DenoisingObjective
from mld_core import DataError, Dataset, DatasetConfig, Split
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.schedule import VPSchedule

ROWS = 4000


class RowNumbers(Dataset):
    """Every item is its row's number; ten classes."""

    kind = "row-numbers"
    Config = DatasetConfig
    columns = {"left": "numbers", "right": "numbers"}  # noqa: RUF012
    classes = tuple("0123456789")

    def split(self, name: Any) -> Split:
        rows = list(range(ROWS))
        labels = [row % 10 for row in rows] if self.classes else None
        return Split([f"{name}-{row}" for row in rows], {"left": rows, "right": rows}, labels)


def with_missing_cells(seed: int = 0, **missing: Any) -> Dataset:
    return DatasetWithMissingCells(
        RowNumbers(DatasetConfig(), {}, seed), MissingSpec.model_validate(missing)
    )


def missing_rows(dataset: Dataset, column: str, split: Any = "train") -> torch.Tensor:
    return torch.tensor([cell is None for cell in dataset.split(split).items[column]])


def test_cells_are_missing_at_the_rate() -> None:
    dataset = with_missing_cells(rate={"left": 0.25})
    left = dataset.split("train").items["left"]
    assert float(missing_rows(dataset, "left").double().mean()) == pytest.approx(0.25, abs=0.03)
    assert all(cell in (None, row) for row, cell in enumerate(left))
    assert not bool(missing_rows(dataset, "right").any())


def test_test_rows_stay_complete() -> None:
    assert not bool(missing_rows(with_missing_cells(rate=0.9), "left", "test").any())
    assert bool(missing_rows(with_missing_cells(rate=0.9), "left", "validation").any())


def test_draws_depend_on_seed_split_and_name() -> None:
    base = missing_rows(with_missing_cells(rate=0.5), "left")
    assert torch.equal(base, missing_rows(with_missing_cells(rate=0.5), "left"))
    assert not torch.equal(base, missing_rows(with_missing_cells(rate=0.5), "right"))
    assert not torch.equal(base, missing_rows(with_missing_cells(1, rate=0.5), "left"))
    assert not torch.equal(base, missing_rows(with_missing_cells(rate=0.5), "left", "validation"))


def test_by_label_rate_rises_and_keeps_the_mean() -> None:
    missing = (
        missing_rows(with_missing_cells(rate=0.4, mechanism="by-label"), "left")
        .double()
        .reshape(-1, 10)
    )
    assert missing.mean(0).tolist() == pytest.approx([0.8 * c / 9 for c in range(10)], abs=0.1)
    assert float(missing.mean()) == pytest.approx(0.4, abs=0.03)


def test_by_label_needs_labels() -> None:
    unlabelled = type("Unlabelled", (RowNumbers,), {"classes": ()})(DatasetConfig(), {}, 0)
    with pytest.raises(DataError, match="needs labels, and dataset 'row-numbers' has none"):
        DatasetWithMissingCells(unlabelled, MissingSpec(rate=0.1, mechanism="by-label"))


def test_fingerprint_depends_on_the_rate() -> None:
    fingerprints = {with_missing_cells(rate=rate).fingerprint() for rate in (0.0, 0.1, 0.2)}
    assert len(fingerprints) == 3
    assert RowNumbers(DatasetConfig(), {}, 0).fingerprint() not in fingerprints


def test_sampling_weights_of_incomplete_rows() -> None:
    layout = LatentLayout.of_vectors({"left": 1, "right": 1})
    objective = DenoisingObjective(DiffuseSpec(), layout, VPSchedule(), torch.nn.Identity())
    complete = torch.ones(3, 2, dtype=torch.bool)
    assert objective.sampling_weights({"present": complete}) is None
    present = torch.tensor([[True, False], [True, True], [False, True]])
    sampling_weights = objective.sampling_weights({"present": present})
    assert sampling_weights is not None
    assert sampling_weights.tolist() == [1, 5, 1]
