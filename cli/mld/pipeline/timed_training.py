"""Trainings of a rehearsal: a few steps of each, whose time and memory are measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mld.runtime.compute import torch_threads
from mld.runtime.context import RunContext
from mld.runtime.progress import Clock
from mld.storage.stages import DIFFUSE
from mld.training.job import TrainJob
from mld.training.loop import LOG_POINTS, Trainer
from mld.training.ranks import Ranks
from mld.training.train import TrainedWeights, training_fabric

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_ROWS = 8
"""Of the first step, which is slow, and whose memory is measured."""
TIMED_SECONDS, MAX_STEPS = 0.12, 8
"""Each training is timed for about so long, of the processor, and for so many steps at most."""
MAX_STEP_SECONDS = 0.5
"""A step has fewer rows than in the run if it would take the processor longer."""
MEMORY_SHARE = 0.5
"""Of the free memory, that the activations of a timed step may take."""


@dataclass(frozen=True)
class MeasuredTraining:
    """A training of a rehearsal.

    Args:
        rows: of a step, of all processes.
        step_seconds: of a step, by one of the processes.
        activation_rows, activations: rows of a step, and bytes that the backward pass of its part
            needs, and the weights.
        device_bytes: the most that a GPU held; 0 on a processor.
    """

    rows: int
    step_seconds: float
    activation_rows: int
    activations: int
    device_bytes: int


class _Step(NamedTuple):
    """Seconds of a step: elapsed, and of the processor, which other processes do not lengthen."""

    elapsed: float
    processor: float


@dataclass
class TimedTrainings:
    """Trains each job for a few steps, only once.

    Args:
        batch_sizes: rows of a step of the run on one device, by job.
        processes: that share the batches of the joint model.
        memory: free bytes where networks are trained; None if unknown.

    Attributes:
        measured: by job.
        seconds: of all trainings together.
    """

    batch_sizes: Mapping[str, int]
    processes: int
    memory: int | None
    clock: Clock
    measured: dict[str, MeasuredTraining] = field(default_factory=dict)
    seconds: float = 0.0
    _weights: dict[str, TrainedWeights] = field(default_factory=dict)
    _parts: dict[str, Sequence[str]] = field(default_factory=dict)

    def __call__(self, job: TrainJob, context: RunContext) -> TrainedWeights:
        """The weights of a job after a few steps."""
        start = self.clock()
        if job.name not in self._weights:
            compute = context.compute
            if job.name == DIFFUSE.job:
                threads = max(1, compute.threads // self.processes)
                compute = replace(compute, processes=self.processes, threads=threads)
            context = replace(context, compute=compute)
            fabric = training_fabric(replace(compute, processes=1))
            with torch_threads(compute), torch.random.fork_rng():
                fabric.launch(partial(self._train, job, context))
        measured = self.measured[job.name]
        rate = measured.rows / measured.step_seconds
        _log_as_a_run(job, context, self._parts[job.name], rate)
        self.seconds += self.clock() - start
        return self._weights[job.name]

    def _train(self, job: TrainJob, context: RunContext, fabric: Fabric) -> None:
        ranks = _FirstRank(context.compute.processes)
        batch_size = self.batch_sizes[job.name]
        rows = ranks.size * max(1, min(FIRST_ROWS, batch_size // ranks.size))
        trainer = Trainer(_with_rows(job, rows), context, fabric, ranks)
        saved = SavedTensors()
        with saved_tensors_hooks(saved.pack, SavedTensor.unpack):
            first = self._step(trainer)
        # The very first step is slow.
        steps = [self._step(trainer) if first.processor < MAX_STEP_SECONDS else first]
        most = timed_rows(batch_size, rows, steps[0].processor, saved.most_bytes, self.memory)
        first_rows, rows = rows, most - most % ranks.size
        if rows != first_rows:
            trainer.job = _with_rows(job, rows)
            steps = [self._step(trainer)]
        while sum(step.processor for step in steps) < TIMED_SECONDS and len(steps) < MAX_STEPS:
            steps.append(self._step(trainer))
        seconds = median_low(step.elapsed for step in steps)
        self.measured[job.name] = MeasuredTraining(
            rows, seconds, first_rows, saved.most_bytes, device_peak()
        )
        ema = trainer.ema.state if trainer.ema else None
        self._weights[job.name] = TrainedWeights(
            _copied(trainer.state), None if ema is None else _copied(ema)
        )

    def _step(self, trainer: Trainer) -> _Step:
        start, processor_start = self.clock(), time.process_time()
        values, self._parts[trainer.job.name] = trainer.forward_backward(False)
        trainer.optimizer_step()
        values.sum().item()  # waits for a GPU
        return _Step(self.clock() - start, time.process_time() - processor_start)


def timed_rows(
    batch_size: int, rows: int, seconds: float, activations: int, memory: int | None
) -> int:
    """Rows of the steps to time: a batch, unless it would take too long or too much memory.

    Args:
        rows: of a step that took so many seconds of the processor and bytes of activations.
    """
    most = rows * MAX_STEP_SECONDS / max(seconds, 1e-9)
    if memory is not None:
        most = min(most, rows * MEMORY_SHARE * memory / max(1, activations))
    return min(batch_size, max(rows, int(most)))


def _with_rows(job: TrainJob, rows: int) -> TrainJob:
    return replace(job, config=replace(job.config, batch_size=rows))


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _log_as_a_run(job: TrainJob, context: RunContext, parts: Sequence[str], rate: float) -> None:
    """Log as often as a run does, so that its report is as large."""
    steps = job.config.steps
    points = min(steps, LOG_POINTS)
    for point in range(1, points + 1):
        context.run_dir.log(
            "train",
            job=job.name,
            step=steps * point // points,
            steps=steps,
            loss=1 + 1 / point,
            parts=dict.fromkeys(parts, 1 + 3 / point),
            validation=1 + 2 / point,
            rate=round(rate, 1),
        )


class _FirstRank(Ranks):
    """The first of several ranks, without the others."""

    def __init__(self, size: int) -> None:
        self.rank, self.size = 0, size

    def average_gradients(self, parameters: Any) -> None:
        """Nothing: there are no other gradients."""

    def mean(self, values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        """The values."""
        return values


class SavedTensor:
    """A tensor that a backward pass needs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def unpack(self) -> Tensor:
        """The tensor."""
        return self.tensor


class SavedTensors:
    """Counts the bytes that backward passes need at the same time.

    Attributes:
        most_bytes: the most so far.
    """

    def __init__(self) -> None:
        self.most_bytes = 0
        self._bytes = 0
        self._uses: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> SavedTensor:
        """Count a tensor until the result is deleted; its memory counts once."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self._uses[address] = self._uses.get(address, 0) + 1
        if self._uses[address] == 1:
            self._bytes += size
            self.most_bytes = max(self.most_bytes, self._bytes)
        saved = SavedTensor(tensor)
        finalize(saved, self._forget, address, size)
        return saved

    def _forget(self, address: int, size: int) -> None:
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address]
            self._bytes -= size


def forget_device_peak() -> None:
    """Measure the memory that a GPU holds anew."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def device_peak() -> int:
    """The most bytes that a GPU held since then; 0 on a processor."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
