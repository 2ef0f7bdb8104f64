from __future__ import annotations

import pytest
import torch

from mld_core.diffusion.ema import EMA


def test_average_follows_its_recurrence() -> None:
    weights = {"w": torch.tensor([1.0, -2.0], dtype=torch.float64)}
    ema = EMA(weights, decay=0.99)
    expected = weights["w"].clone()
    for step in range(1, 2001):
        weights["w"] += 0.01
        ema.update(weights, step)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights["w"]
    torch.testing.assert_close(ema.state["w"], expected)


def test_initial_weights_are_soon_forgotten() -> None:
    weights = {"w": torch.tensor([100.0])}
    ema = EMA(weights, decay=0.9999)
    weights["w"].zero_()
    for step in range(1, 101):
        ema.update(weights, step)
    assert ema.state["w"].item() < 1e-3  # without warm-up it would still be 99


def test_integers_are_copied_and_the_source_is_unchanged() -> None:
    weights = {"w": torch.ones(1), "count": torch.tensor(3)}
    ema = EMA(weights, decay=0.5)
    weights["count"].fill_(9)
    ema.update(weights, 1)
    assert ema.state["count"].item() == 9
    assert weights["w"].item() == 1


def test_invalid_decays_are_rejected() -> None:
    with pytest.raises(ValueError, match="decay"):
        EMA({}, 1.0)
