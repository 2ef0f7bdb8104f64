"""What a training's steps come to, and the end of it where a number is not finite."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mld_core.errors import NumericalError


@dataclass(frozen=True)
class Summary:
    """The means over the steps since the last log."""

    loss: float
    parts: dict[str, float]
    rate: float


class LossMeter:
    """The losses since the last log; they stay on the device until `look`, which waits for it.

    A row of values is (stop asked, gradient norm, loss, part by part).

    Args:
        job: the training's name, for complaints.
        batch: the rows of one update.
        objective: what is trained; a complaint names its parameters.
    """

    def __init__(self, job: str, batch: int, objective: nn.Module) -> None:
        self._job = job
        self._batch = batch
        self._objective = objective
        self._pending: list[Float[Tensor, " value"]] = []
        self._names: list[str] = []
        self._last: tuple[int, float] | None = None
        self._restart()

    def _restart(self) -> None:
        self._total: list[float] = []
        self._count = 0
        self._since = time.monotonic()

    def add(self, values: Float[Tensor, " value"], names: list[str]) -> None:
        """Note one update's values, of which the parts bear these names."""
        self._pending.append(values)
        self._names = names

    def look(self, update: int) -> bool:
        """Check all rows noted up to this update; True if one of them asks to stop.

        NumericalError at the first value that is not finite.
        """
        rows = torch.stack(self._pending).tolist()
        self._pending.clear()
        for number, row in enumerate(rows, start=update - len(rows) + 1):
            if not all(map(math.isfinite, row)):
                raise NumericalError(self._complaint(number, row))
            self._last = (number, row[2])
            before = self._total or [0.0] * len(row)
            self._total = [total + value for total, value in zip(before, row, strict=True)]
            self._count += 1
        return any(row[0] for row in rows)

    def summary(self) -> Summary:
        """The means since the last log."""
        _, _, loss, *parts = (total / self._count for total in self._total)
        rate = self._count * self._batch / (time.monotonic() - self._since)
        return Summary(loss, dict(zip(self._names, parts, strict=True)), rate)

    def log(self) -> Summary:
        """The means since the last log, which is now."""
        told = self.summary()
        self._restart()
        return told

    def _complaint(self, update: int, row: list[float]) -> str:
        _, norm, loss, *parts = row
        bad = [
            f"{name} ({part})"
            for name, part in zip(self._names, parts, strict=True)
            if not math.isfinite(part)
        ]
        if bad:
            what = f"the loss of {', '.join(bad)}"
        elif not math.isfinite(loss):
            what = f"the loss ({loss})"
        else:
            what = f"the gradient of {self._bad_parameters()} ({norm})"
        last = "none" if self._last is None else f"{self._last[1]:.6g}, at update {self._last[0]}"
        return (
            f"{self._job}, update {update}: {what} is not finite (last finite loss: {last}). "
            "The last checkpoint is kept. Look at the data, lower the learning rate, or set "
            "compute.precision to 32-true"
        )

    def _bad_parameters(self) -> str:
        trained = {n: p.grad for n, p in self._objective.named_parameters() if p.grad is not None}
        bad = [name for name, grad in trained.items() if not grad.isfinite().all()]
        return "every parameter" if len(bad) == len(trained) else ", ".join(bad)
