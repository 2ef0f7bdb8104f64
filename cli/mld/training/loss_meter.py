"""Running means of a training's losses, and the error where a number is not finite."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mld.runtime.progress import Clock, RecentRate
from mld_core.errors import NumericalError


@dataclass(frozen=True)
class MeanLosses:
    """Means over the steps since the last reset; the rate is that of the last half minute."""

    loss: float
    parts: dict[str, float]
    rows_per_second: float


class Requests(NamedTuple):
    """What any rank has requested: to stop and resume later, or to end before the last step."""

    stop: bool
    end: bool


class LossMeter:
    """Accumulates losses on the device; `sync_and_check` copies them to the host.

    The values of a step are (stop requested, end requested, gradient norm, loss, part by part).

    Args:
        job: the training's name, for errors.
        batch_size: rows of a step.
        objective: what is trained; an error names its parameters.
    """

    def __init__(
        self, job: str, batch_size: int, objective: nn.Module, clock: Clock = time.monotonic
    ) -> None:
        self._job = job
        self._batch_size = batch_size
        self._objective = objective
        self._pending: list[Float[Tensor, " value"]] = []
        self._names: list[str] = []
        self._last_finite = "none"
        self._clock = clock
        self._start = clock()
        self._recent = RecentRate(clock)
        self.reset()

    def reset(self) -> None:
        """Start new means."""
        self._totals: list[float] = []
        self._count = 0

    def update(self, values: Float[Tensor, " value"], names: list[str]) -> None:
        """Add the values of a step, whose parts have these names."""
        self._pending.append(values)
        self._names = names

    def sync_and_check(self, step: int) -> Requests:
        """Read all values added up to this step, and the requests in them.

        NumericalError at the first value that is not finite.
        """
        rows = torch.stack(self._pending).tolist()
        self._pending.clear()
        for number, row in enumerate(rows, start=step - len(rows) + 1):
            if not all(map(math.isfinite, row)):
                raise NumericalError(self._error(number, row))
            self._last_finite = f"{row[3]:.6g}, at step {number}"
            totals = self._totals or [0.0] * len(row)
            self._totals = [total + value for total, value in zip(totals, row, strict=True)]
            self._count += 1
        self._recent.update(step)
        return Requests(any(row[0] for row in rows), any(row[1] for row in rows))

    def means(self) -> MeanLosses:
        """The means since the last reset."""
        _, _, _, loss, *parts = (total / self._count for total in self._totals)
        # The first steps, which are slow, count only until later ones have a rate.
        rate = self._recent.per_second or self._count / (self._clock() - self._start)
        parts_by_name = dict(zip(self._names, parts, strict=True))
        return MeanLosses(loss, parts_by_name, rate * self._batch_size)

    def _error(self, step: int, row: list[float]) -> str:
        _, _, norm, loss, *parts = row
        bad_parts = [
            f"{name} ({part})"
            for name, part in zip(self._names, parts, strict=True)
            if not math.isfinite(part)
        ]
        if bad_parts:
            what = f"the loss of {', '.join(bad_parts)}"
        elif not math.isfinite(loss):
            what = f"the loss ({loss})"
        else:
            what = self._bad_gradients(norm)
        return (
            f"{self._job}, step {step}: {what} is not finite (last finite loss: "
            f"{self._last_finite}). The last checkpoint is kept. Check the data, lower the "
            "learning rate, or set compute.precision to 32-true"
        )

    def _bad_gradients(self, norm: float) -> str:
        """Which gradients are not finite or, where only their norm is not, which is the largest."""
        grads = {n: p.grad for n, p in self._objective.named_parameters() if p.grad is not None}
        bad = [name for name, grad in grads.items() if not grad.isfinite().all()]
        if bad:
            names = "every parameter" if len(bad) == len(grads) else ", ".join(bad)
            return f"the gradient of {names} ({norm})"
        largest, name = max((float(grad.abs().max()), name) for name, grad in grads.items())
        return f"the norm of the gradients ({norm}; that of {name} reaches {largest:.3g})"
