from __future__ import annotations

import numpy as np
import pytest
import torch

from mld.inference.held_out_cells import coverage, hide_cells, rank_of_truth


@pytest.mark.parametrize("dims", [1, 5])
def test_truth_from_the_distribution_of_the_samples_has_a_uniform_rank(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20_000, 5, dims, generator=generator)
    points *= torch.rand(20_000, 1, dims, generator=generator)  # each cell has its own width
    ranks = rank_of_truth(points[:, 1:], points[:, 0], 0)
    shares = np.bincount((ranks * 5).round().astype(int), minlength=6)[1:] / len(ranks)
    assert shares == pytest.approx([0.2] * 5, abs=0.015)


@pytest.mark.parametrize(("width", "covered"), [(0.5, "few"), (2.0, "many")])
def test_samples_that_are_too_alike_or_too_wide_are_seen(width: float, covered: str) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = width * torch.randn(2_000, 9, 2, generator=generator)
    regions = coverage(rank_of_truth(draws, torch.randn(2_000, 2, generator=generator), 0), 9)
    observed = {region["level"]: region["observed"] for region in regions}
    assert (observed[0.8] < 0.6) if covered == "few" else (observed[0.8] > 0.95)


def test_equal_samples_of_a_class_are_ordered_at_random() -> None:
    classes = torch.eye(2)[torch.randint(2, (4_000, 5), generator=torch.Generator().manual_seed(0))]
    ranks = rank_of_truth(classes[:, 1:], classes[:, 0], 0)
    assert float((ranks <= 0.4 + 1e-9).mean()) == pytest.approx(0.4, abs=0.03)


def test_regions_have_the_probabilities_that_the_number_of_samples_allows() -> None:
    regions = coverage(np.full(10, 0.1), 1)
    assert [(region["level"], region["expected"]) for region in regions] == [
        (0.5, 0.5),
        (0.8, 0.5),
        (0.95, 0.5),
    ]
    region = coverage(np.array([0.1] * 8 + [1.0] * 2), 64)[1]
    assert region["observed"] == 0.8
    # Wilson's interval of 8 in 10.
    assert (region["low"], region["high"]) == pytest.approx((0.490, 0.943), abs=1e-3)


def test_hidden_cells_follow_the_gaps_of_the_table() -> None:
    observed = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool()
    wanted = torch.tensor([[0, 0, 1], [0, 0, 1], [0, 1, 1]]).bool()
    present = torch.ones(12, 3).bool()
    present[1, 2] = False  # there is nothing to hide in this row
    present[11, 1] = False
    rows, stay, hidden = hide_cells(observed, wanted, present, 12)
    assert rows.tolist() == [0, *range(2, 12)]
    assert stay.int().tolist() == [*[[1, 1, 0]] * 7, *[[1, 0, 0]] * 4]
    assert hidden.int().tolist() == [*[[0, 0, 1]] * 7, *[[0, 1, 1]] * 3, [0, 0, 1]]
    assert len(hide_cells(observed, wanted, present, 3)[0]) == 3
