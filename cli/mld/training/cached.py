"""Trainings whose weights the store holds, so that experiments share them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mld.runtime.context import RunContext
from mld.training.job import TrainJob
from mld.training.train import TrainedWeights, train


def train_cached(job: TrainJob, context: RunContext) -> TrainedWeights:
    """The weights of a job, from the store if another run has trained the same."""
    with context.store.entry(job.cache_key(context)) as entry:
        stored = entry.read()
        if stored is not None:
            context.run_dir.log("store", job=job.name, state="reused")
            return _unflatten(stored)
        trained = train(job, context)
        entry.write(_flatten(trained))
        return trained


def is_in_progress(job: TrainJob, context: RunContext) -> bool:
    """Whether another run is doing the same training now; `train_cached` would wait for it."""
    return context.store.is_locked(job.cache_key(context))


def _flatten(trained: TrainedWeights) -> dict[str, Tensor]:
    """Weights and their average in one mapping."""
    states = {"weights": trained.weights, "ema": trained.ema or {}}
    return {f"{kind}/{name}": t for kind, state in states.items() for name, t in state.items()}


def _unflatten(flat: Mapping[str, Tensor]) -> TrainedWeights:
    weights, ema = (
        {name.removeprefix(prefix): t for name, t in flat.items() if name.startswith(prefix)}
        for prefix in ("weights/", "ema/")
    )
    return TrainedWeights(weights, ema or None)
