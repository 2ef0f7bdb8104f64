"""Trainings whose weights the store holds, so that experiments share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from mld.runtime.context import RunContext
from mld.training.checkpoint import TrainingEnd, flatten, unflatten
from mld.training.job import TrainJob
from mld.training.origin import training_origin
from mld.training.train import TrainedWeights, is_finished, report_end, train

Train = Callable[[TrainJob, RunContext], TrainedWeights]
"""As `train`: trains a job, here or in another process."""


def train_cached(job: TrainJob, context: RunContext, train: Train = train) -> TrainedWeights:
    """The weights of a job, from the store if another run has trained the same, else by `train`.

    Of a rehearsal, those of its own trainings.
    """
    if context.rehearse is not None:
        return context.rehearse(job, context)  # type: ignore[no-any-return]
    with context.store.entry(job.cache_key(context)) as entry:
        stored = entry.read()
        if stored is not None:
            if not is_finished(job, context):
                context.run_dir.log("store", job=job.name, state="reused")
            _record_origin(job, context)
            tensors, about = stored
            groups = unflatten(tensors)
            end = TrainingEnd(**about) if about else None
            return TrainedWeights(groups["weights"], groups.get("ema"), end)
        trained = train(job, context)
        end = trained.end
        if end is not None:
            report_end(job, end, context)
        # What a time limit has cut short depends on the machine.
        if end is None or end.reason != "time limit":
            tensors = flatten({"weights": trained.weights, "ema": trained.ema or {}})
            entry.write(tensors, asdict(end) if end else {})
            _record_origin(job, context)
        return trained


def _record_origin(job: TrainJob, context: RunContext) -> None:
    """Tell later dry runs that the store has the weights of a training of a pipeline."""
    if context.sections:
        origin = training_origin(job.name, context, context.run_dir.stage_digest)
        context.store.record_origin(origin, job.cache_key(context))


def is_in_progress(job: TrainJob, context: RunContext) -> bool:
    """Whether another run is doing the same training now; `train_cached` would wait for it."""
    return context.store.is_locked(job.cache_key(context))
