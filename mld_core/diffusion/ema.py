"""Exponential moving average of weights, with warm-up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class EMA:
    """Running average of named tensors, updated after each optimiser step.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that the random initial weights are
    soon forgotten. (The official code averages before the step, and without warm-up.)

    Args:
        source: the tensors to average, by name, at their initial values.
        decay: weight of the past, in [0, 1).
    """

    def __init__(self, source: Mapping[str, Tensor], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), not {decay}")
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in source.items()}
        self._floating = [name for name, tensor in source.items() if tensor.is_floating_point()]

    @torch.no_grad()
    def update(self, source: Mapping[str, Tensor], step: int) -> None:
        """Average in `source` after optimiser step `step`, counted from 1; integers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        floating = [self.state[name] for name in self._floating]
        torch._foreach_lerp_(floating, [source[name] for name in self._floating], 1 - decay)
        for name in self.state.keys() - set(self._floating):
            self.state[name].copy_(source[name])
