"""A rehearsal of a run: every stage on a few rows, with a few steps of each training.

It trains, samples and evaluates as the run will, in a temporary folder, and so tells the speed of
this machine and the sizes of files for just this spec.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mld.config.sections import TrainingOverride
from mld.config.spec import Spec
from mld.data.coverage import coverage_of
from mld.pipeline.autoencode import load_autoencoders
from mld.pipeline.diffuse import select_method
from mld.pipeline.generate import GENERATE_BATCH_SIZE, draws_per_row
from mld.pipeline.joint_method import Conditioning
from mld.pipeline.measures import (
    MeasuredRunDir,
    MeasuredSampling,
    MeasuredStage,
    MeasuredStore,
    MeasuredTraining,
    Measures,
)
from mld.pipeline.peek import Peek
from mld.pipeline.prepare import PreparedData
from mld.pipeline.run import run_stages
from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.progress import Clock
from mld.runtime.progress_relay import hidden_progress
from mld.storage.run_dir import RunDir
from mld.storage.stages import (
    AUTOENCODE,
    DATA,
    DIFFUSE,
    EVALUATE,
    GENERATE,
    MATCH_JOB,
    stage_of_job,
)
from mld.training.job import TrainJob
from mld.training.parallel import parallel_trainings
from mld.training.ranks import Ranks
from mld.training.train import CHECKPOINT_SECONDS, TrainedWeights, launch, train, train_by
from mld_core import Registry

FEW_ROWS, MORE_ROWS = 8, 64
"""Rows of every split of the two rehearsals, the first of which also loads libraries."""
FEW_PREVIEWS, MORE_PREVIEWS = 1, 2
"""Samples of each subset that they write as files."""
FEW_SOLVER_STEPS, MORE_SOLVER_STEPS = 2, 4
"""Of samples that are timed, from which the time of more steps is extrapolated."""
MAX_DRAWS = 2
FIRST_STEPS, FIRST_BATCH = 2, 32
"""Steps of each training of the first rehearsal, of which the first one is slow, and their rows."""
TRAINING_SECONDS, MAX_STEPS = 0.4, 50
"""The second one trains each network for about so long, and for so many steps at most."""
MAX_STEP_SECONDS = 2.0
"""It has fewer rows in a batch if a step would take longer."""


@dataclass(frozen=True)
class Training:
    """How a rehearsal trains: steps, and rows of a batch."""

    steps: int
    rows: int


FIRST_TRAINING = Training(FIRST_STEPS, FIRST_BATCH)


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal has measured.

    Args:
        rows: of every split, and samples of each subset.
        previews: of each subset.
        stages, trainings: by name.
        sampling: of a joint sample.
    """

    rows: int
    previews: int
    stages: Mapping[str, MeasuredStage]
    trainings: Mapping[str, MeasuredTraining]
    sampling: MeasuredSampling


def rehearse_first(
    spec: Spec,
    registry: Registry,
    peek: Peek,
    compute: Compute,
    jobs: Collection[str],
    clock: Clock = time.perf_counter,
) -> Rehearsal:
    """A short rehearsal, with small batches, that measures the memory of trainings.

    MLDError as of the run. Nothing is left on disk, and nothing is shown.

    Args:
        jobs: the trainings of the run.
    """
    trainings = dict.fromkeys(jobs, FIRST_TRAINING)
    return _rehearse(spec, registry, peek, compute, FEW_ROWS, FEW_PREVIEWS, trainings, clock)


def rehearse_again(
    spec: Spec,
    registry: Registry,
    peek: Peek,
    compute: Compute,
    first: Rehearsal,
    clock: Clock = time.perf_counter,
) -> Rehearsal:
    """A rehearsal with the batches of the run, that measures time; else as the first one."""
    trainings = {
        name: timed_training(batch_sizes(spec)[name], training)
        for name, training in first.trainings.items()
    }
    return _rehearse(spec, registry, peek, compute, MORE_ROWS, MORE_PREVIEWS, trainings, clock)


def batch_sizes(spec: Spec) -> dict[str, int]:
    """Rows of a step of each training that a run may have, by name."""
    sizes = {DIFFUSE.job: spec.diffuse.batch_size, MATCH_JOB: spec.evaluate.batch_size}
    for name in spec.modalities:
        sizes[f"{AUTOENCODE.job}/{name}"] = spec.autoencode.of(name).batch_size
        sizes[f"{EVALUATE.job}/{name}"] = spec.evaluate.batch_size
    return sizes


def timed_training(batch_size: int, first: MeasuredTraining) -> Training:
    """Of as many steps as there is time for."""
    rows = min(batch_size, max(first.rows, int(first.rows * MAX_STEP_SECONDS / first.step_seconds)))
    seconds = first.step_seconds * rows / first.rows
    return Training(max(FIRST_STEPS + 1, min(MAX_STEPS, int(TRAINING_SECONDS / seconds))), rows)


def _rehearse(
    spec: Spec,
    registry: Registry,
    peek: Peek,
    compute: Compute,
    rows: int,
    previews: int,
    trainings: Mapping[str, Training],
    clock: Clock,
) -> Rehearsal:
    """A rehearsal on so many rows of every split.

    Args:
        previews: of each subset.
        trainings: of the run, by name.
    """
    draws = draws_per_row(spec.generate, peek.modalities)
    small = _small(spec, compute.devices, rows, previews, draws, trainings)
    # Windows deletes no file that is mapped.
    temporary = TemporaryDirectory(prefix="mld-", ignore_cleanup_errors=True)
    with temporary as folder, ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(hidden_progress())
        stack.enter_context(torch_threads(compute))
        measures = Measures(clock, counts_activations=rows == FEW_ROWS)
        context = RunContext(
            MeasuredRunDir(Path(folder) / "run", measures),
            MeasuredStore(Path(folder) / "store", measures),
            compute.on_one_device(),
            spec.seed,
            small.model_dump(mode="json"),
        )
        data = peek.data(rows)
        prepared = PreparedData(
            dict(peek.modalities), data, context.fingerprint(DATA), coverage_of(data), []
        )
        method = select_method(small, registry, peek.modalities)
        workers, _ = parallel_trainings(len(spec.modalities), compute)
        pool = _OneOfSeveral(workers) if workers > 1 else None
        run_stages(small, registry, method, prepared, context, pool)
        sampling = _measure_sampling(small, spec, registry, peek, context, clock)
        return _measured(small, rows, measures, sampling, context.run_dir)


def _measure_sampling(
    small: Spec,
    spec: Spec,
    registry: Registry,
    peek: Peek,
    context: RunContext,
    clock: Clock,
) -> MeasuredSampling:
    """The time of joint samples by the trained model, without that of writing them."""
    count = min(spec.generate.num_samples, GENERATE_BATCH_SIZE)
    autoencoders = load_autoencoders(peek.modalities, context)
    points = []
    for steps in (FEW_SOLVER_STEPS, MORE_SOLVER_STEPS):
        update = {"generate": small.generate.model_copy(update={"steps": steps})}
        method = select_method(small.model_copy(update=update), registry, peek.modalities)
        model = method.load(autoencoders, context)
        start = clock()
        samples = model.sample(Conditioning({}, {}), [*peek.modalities], [*range(count)])
        points.append((samples.nfe, (clock() - start) / count))
    costs = context.run_dir.stage_metadata(GENERATE.name)["costs"].values()
    # The seconds are those of one draw.
    rehearsed = sum(small.generate.num_samples * cost["seconds"] for cost in costs)
    (few, seconds), (more, more_seconds) = points
    if more <= few:
        return MeasuredSampling(0.0, more_seconds / more, rehearsed)
    evaluation = max(0.0, more_seconds - seconds) / (more - few)
    return MeasuredSampling(max(0.0, more_seconds - more * evaluation), evaluation, rehearsed)


def _small(
    spec: Spec,
    devices: int,
    rows: int,
    previews: int,
    draws: int,
    trainings: Mapping[str, Training],
) -> Spec:
    """A spec of the same networks with few rows, samples and steps."""

    def training(job: str, steps: int, batch_size: int) -> dict[str, int | None]:
        chosen = trainings[job]
        batch = max(1, min(batch_size, chosen.rows) // devices)
        return {
            "steps": min(steps, chosen.steps),
            "batch_size": batch,
            "patience": None,
            "time_limit": None,
        }

    overrides = {}
    for name in spec.modalities:
        each, job = spec.autoencode.of(name), f"{AUTOENCODE.job}/{name}"
        if job in trainings:
            changed = training(job, each.steps, each.batch_size)
            overrides[name] = TrainingOverride.model_validate(each.model_dump() | changed)
    diffuse, generate, evaluate = spec.diffuse, spec.generate, spec.evaluate
    # All classifiers, and the judge of pairs, have the same steps.
    evaluators = [
        training(job, evaluate.steps, evaluate.batch_size)
        for job in trainings
        if stage_of_job(job) == EVALUATE.name
    ]
    shortest = min(evaluators, key=lambda each: each["steps"] or 0, default={})
    judges = evaluate.judge if evaluate.judge == "retrieval" else "both"
    sampling = {
        "num_samples": min(rows, generate.num_samples),
        "num_previews": min(previews, generate.num_previews),
        "steps": min(FEW_SOLVER_STEPS, generate.steps),
        "draws": min(MAX_DRAWS, draws),
    }
    return spec.model_copy(
        update={
            # Those that the run takes from another one are trained for one step here.
            "autoencode": spec.autoencode.model_copy(update={"overrides": overrides, "steps": 1}),
            "diffuse": diffuse.model_copy(
                update=training(DIFFUSE.job, diffuse.steps, diffuse.batch_size)
                if DIFFUSE.job in trainings
                else {}
            ),
            "generate": generate.model_copy(update=sampling),
            "evaluate": evaluate.model_copy(
                update={**shortest, "judge": judges if MATCH_JOB in trainings else "classes"}
            ),
        }
    )


class _OneOfSeveral:
    """Trains in this process what several would train, one after the other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def train(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """As the function `train`; the store opens one entry at a time."""
        return train(job, context)

    def train_together(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """One share of every batch."""
        ranks = _FirstRank(context.compute.processes)
        start = partial(launch, job, context, CHECKPOINT_SECONDS, lambda: False, ranks)
        return train_by(start, job, context)

    def interrupt(self) -> None:
        """Nothing: trainings are short."""


class _FirstRank(Ranks):
    """The first of several ranks, without the others."""

    def __init__(self, size: int) -> None:
        self.rank, self.size = 0, size

    def average_gradients(self, parameters: Any) -> None:
        """Nothing: there are no other gradients."""

    def mean(self, values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        """The values."""
        return values


def _measured(
    spec: Spec, rows: int, measures: Measures, sampling: MeasuredSampling, run_dir: RunDir
) -> Rehearsal:
    batches = batch_sizes(spec)
    return Rehearsal(
        rows,
        spec.generate.num_previews,
        {
            name: replace(stage, file_bytes=run_dir.stage_bytes(name))
            for name, stage in measures.stages.items()
        },
        {
            event["job"]: MeasuredTraining(
                batches[event["job"]],
                batches[event["job"]] / event["rate"],
                measures.activations[event["job"]],
                measures.device_bytes[event["job"]],
            )
            for event in run_dir.read_events()
            if event["event"] == "train"
        },
        sampling,
    )
