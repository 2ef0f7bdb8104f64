"""Trainings whose weights the store keeps, so that experiments share them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue
from torch import Tensor

from mld.runtime.context import RunContext
from mld.storage.digests import digest, file_digest
from mld.training.loop import train_loop
from mld.training.train import Objective, Settings, Trained, train

if TYPE_CHECKING:
    from mld.config.sections import DiffuseSpec, TrainingSpec

    Training = DiffuseSpec | TrainingSpec


def train_cached(
    context: RunContext,
    job: str,
    objective: Objective,
    rows: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    spec: Training,
    key: Mapping[str, JsonValue],
    ema: float | None = None,
) -> Trained:
    """The trained objective's weights, from the store where another run has trained the same.

    `key` is what decides the weights beside the settings and the computing.
    """
    key = _whole_key(context, job, objective, spec, key, ema)
    with context.store.entry(key) as entry:
        if entry.found:
            context.run_dir.log("store", job=job, state="read back")
            return _unpacked(entry.read())
        settings = Settings(spec.steps, spec.batch_size, spec.learning_rate, ema, context.seed)
        trained = train(
            job,
            objective,
            rows,
            validation if len(next(iter(validation.values()))) else None,
            settings,
            context.compute,
            context.run_dir,
            fingerprint=digest(key),
        )
        entry.write(_packed(trained), {})
        return trained


def is_in_progress(
    context: RunContext,
    job: str,
    objective: Objective,
    spec: Training,
    key: Mapping[str, JsonValue],
) -> bool:
    """Whether another run is at the same training just now, which `train_cached` waits for."""
    return context.store.is_held(_whole_key(context, job, objective, spec, key, None))


def _whole_key(
    context: RunContext,
    job: str,
    objective: Objective,
    spec: Training,
    key: Mapping[str, JsonValue],
    ema: float | None,
) -> dict[str, JsonValue]:
    learnt_by = inspect.getfile(train_loop), inspect.getfile(type(objective))
    return {
        **key,
        "loss and loop": [file_digest(Path(file)) for file in learnt_by],
        "job": job.partition("/")[0],
        "training": [spec.steps, spec.batch_size, spec.learning_rate, ema],
        "seed": context.seed,
        "devices": context.compute.devices,
        "precision": context.compute.precision,
        "threads": context.compute.threads,
    }


def _packed(trained: Trained) -> dict[str, Tensor]:
    """Weights and their average in one mapping, as the store keeps them."""
    kinds = {"weights": trained.weights, "ema": trained.ema or {}}
    return {f"{kind}/{name}": own for kind, told in kinds.items() for name, own in told.items()}


def _unpacked(kept: Mapping[str, Tensor]) -> Trained:
    weights, ema = (
        {name.removeprefix(kind): own for name, own in kept.items() if name.startswith(kind)}
        for kind in ("weights/", "ema/")
    )
    return Trained(weights, ema or None)
