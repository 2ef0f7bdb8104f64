from __future__ import annotations

import pytest
import torch

from mld_core.evaluation.memorisation import nearest_distance, nearness


def test_new_points_are_as_near_as_held_out_ones() -> None:
    """The interval contains 0.5 about as often as it says."""
    contained = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        samples, held_out, training = (
            torch.randn(n, 3, generator=generator) for n in (80, 60, 200)
        )
        result = nearness(samples, held_out, training)
        contained += abs(result.nearer - 0.5) <= result.half_width
    assert contained >= 88


def test_copies_are_nearer_and_far_points_are_not() -> None:
    held_out, training = torch.randn(50, 3), torch.randn(100, 3)
    copies = nearness(training[:40], held_out, training)
    assert copies.nearer == 1
    assert copies.sample_distance == 0
    assert nearness(held_out + 100, held_out, training).nearer == 0
    half = torch.cat([training[:20], 100 + held_out[:20]])
    assert nearness(half, held_out, training).nearer == 0.5


def test_ties_count_half() -> None:
    """As where samples and held-out points are words that training points have too."""
    words = torch.randint(0, 3, (60, 1)).float()
    result = nearness(words, words[:30], words)
    assert (result.nearer, result.standard_error) == (0.5, 0)


def test_distances_do_not_depend_on_how_many_are_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, references = torch.randn(20, 3), torch.randn(30, 3)
    expected = (points[:, None] - references).norm(dim=2).amin(1)
    monkeypatch.setattr("mld_core.evaluation.memorisation.DISTANCES_AT_ONCE", 64)
    torch.testing.assert_close(nearest_distance(points, references), expected)


def test_too_few_points_are_rejected() -> None:
    points = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="not 1, 3 and 3"):
        nearness(points[:1], points, points)
