"""What speed.py measures: trainings, samplings, matrix products and commands, one at a time."""

from __future__ import annotations

import copy
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import Generator
from torch.utils.flop_counter import FlopCounterMode

from mld.config.spec import Spec
from mld.data.encoding import decode
from mld.data.loading import Data, fit_modalities, layout_of, open_dataset
from mld.data.types import LatentCache, SplitLatents
from mld.pipeline.autoencode import ReconstructionObjective
from mld.pipeline.diffuse import select_method
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld.pipeline.joint_method import Conditioning, JointGenerator, JointMethod
from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.stages import AUTOENCODE
from mld.training.job import TrainJob
from mld.training.modality_networks import modality_job
from mld.training.train import train
from mld_core import Modality, Registry
from mld_core.diffusion.standardiser import Standardiser

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

START = time.perf_counter()
ROWS = 512
"""Training rows, which a training draws with replacement."""
EXAMPLES = f"data={{kind: examples, train: {ROWS}, validation: 1, test: 1}}"
"""The dataset of every problem."""
WARM_UP_STEPS = 2
MIN_STEPS = 3
EVENT_RESOLUTION = 1e-3
"""Of the times in a run's events, in seconds."""
MATRIX_TYPES = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
"""The type in which matrices are multiplied, by precision."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        rounds: of all measurements that take turns.
        training_seconds: of one measurement of a training, or of the matrix peak.
        matrix_size: rows and columns of the matrices that are multiplied for it.
        samples: generated at once.
        timed_steps: a sampler of more steps is timed with these, and its time is scaled by the
            number of network evaluations.
        image_batch_size: of the autoencoders of large images.
    """

    rounds: int = 3
    training_seconds: float = 1.5
    matrix_size: int = 2048
    samples: int = 64
    timed_steps: int = 20
    image_batch_size: int = 32


@dataclass(frozen=True)
class Problem:
    """A spec with its modalities, example rows and method.

    Latents are random, as cost does not depend on them. No training is validated.
    """

    spec: Spec
    modalities: Mapping[str, Modality]
    data: Data
    latents: LatentCache
    method: JointMethod

    @classmethod
    def load(cls, spec: Spec, registry: Registry) -> Problem:
        """The problem of a spec whose dataset is `EXAMPLES`."""
        dataset = open_dataset(spec, registry)
        modalities = fit_modalities(spec, dataset, registry)
        layout = layout_of(modalities)
        z = torch.randn(ROWS, layout.joint_dim)
        present = torch.ones(ROWS, len(modalities), dtype=torch.bool)
        rows, no_rows = SplitLatents(z, present), SplitLatents(z[:0], present[:0])
        standardiser = Standardiser.fit(z, present, layout)
        latents = LatentCache(layout, rows, no_rows, no_rows, standardiser)
        method = select_method(spec, registry, modalities)
        return cls(spec, modalities, Data(dataset, modalities), latents, method)

    def with_method(self, spec: Spec, registry: Registry) -> Problem:
        """The same modalities and rows with the method of another spec."""
        return replace(self, spec=spec, method=select_method(spec, registry, self.modalities))

    @property
    def nfe(self) -> float:
        """Network evaluations of a joint sample."""
        return self.method.evaluations_per_sample(())

    def joint_job(self, context: RunContext) -> TrainJob:
        """The training of the joint model."""
        job = self.method.job(self.data, self.latents, context)
        return replace(job, validation={name: x[:0] for name, x in job.validation.items()})

    def autoencoder_jobs(self) -> dict[str, TrainJob]:
        """The training of each modality's autoencoder."""
        jobs = {}
        for name, modality in self.modalities.items():
            objective = ReconstructionObjective(name, modality, modality.autoencoder())
            x, config = self.data.train.items[name], self.spec.autoencode.of(name)
            jobs[name] = modality_job(AUTOENCODE.job, objective, {"x": x}, {"x": x[:0]}, config)
        return jobs

    def generator(self, context: RunContext) -> JointGenerator:
        """The joint model after one step of training, with new autoencoders."""
        autoencoders = {name: each.autoencoder().eval() for name, each in self.modalities.items()}
        job = self.joint_job(context)
        job = replace(job, config=replace(job.config, steps=1))
        with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            context = replace(context, run_dir=RunDir(Path(folder)))
            self.method.save(train(job, context), self.latents, context.run_dir)
            return self.method.load(autoencoders, context)


@dataclass(frozen=True)
class Training:
    """A training to be measured with the context's number of threads."""

    name: str
    job: TrainJob
    context: RunContext

    @property
    def key(self) -> tuple[str, int]:
        """Of its rates."""
        return self.name, self.context.compute.threads

    def rate(self, steps: int) -> float:
        """Rows per second of the training loop, from its first event to its last."""
        job = replace(self.job, config=replace(self.job.config, steps=steps))
        # On a terminal the loop draws a bar, which takes time.
        with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            run_dir = RunDir(Path(folder))
            train(job, replace(self.context, run_dir=run_dir), checkpoint_seconds=math.inf)
            events = [event for event in run_dir.read_events() if event["event"] == "train"]
        first, last = events[0], events[-1]
        elapsed = datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])
        rows = (last["step"] - first["step"]) * job.config.batch_size
        return float(rows / max(elapsed.total_seconds(), EVENT_RESOLUTION))

    def measurement(self, effort: Effort) -> Callable[[], float]:
        """Measures the rate over as many steps as fill the time, after a few to warm up."""
        steps = effort.training_seconds * self.rate(WARM_UP_STEPS) / self.job.config.batch_size
        return partial(self.rate, max(math.ceil(steps), MIN_STEPS))

    def flops_per_row(self) -> float:
        """Operations of a step's matrix products and convolutions, forwards and backwards."""
        objective = copy.deepcopy(self.job.objective).train()
        batch = {name: x[: self.job.config.batch_size] for name, x in self.job.rows.items()}
        with FlopCounterMode(display=False) as counter:
            objective(batch, Generator().manual_seed(0))[0].backward()
        return float(counter.get_total_flops() / len(next(iter(batch.values()))))


def seconds_per_latent(generator: JointGenerator, nfe: float, effort: Effort) -> float:
    """Seconds per joint sample, not decoded; `nfe` is its number of network evaluations."""
    if isinstance(generator, DiffusionGenerator):
        steps = min(generator.sampling.steps, effort.timed_steps)
        sampling = generator.sampling.with_overrides(steps=steps)
        generator = replace(generator, sampling=sampling)
    start = time.perf_counter()
    samples = generator.sample(Conditioning({}, {}), [*generator.decoders], range(effort.samples))
    return (time.perf_counter() - start) / effort.samples * nfe / samples.nfe


def seconds_per_sample(
    generator: JointGenerator, problem: Problem, nfe: float, effort: Effort
) -> float:
    """Seconds per joint sample and its decoding."""
    seconds = seconds_per_latent(generator, nfe, effort)
    latents = problem.latents.layout.split(problem.latents.train.z[: effort.samples])
    start = time.perf_counter()
    for name, z in latents.items():
        decode(generator.decoders[name], z, name)
    return seconds + (time.perf_counter() - start) / effort.samples


def matrix_types(compute: Compute) -> list[torch.dtype]:
    """float32, and the type of the precision, if it is another one."""
    return list(dict.fromkeys([torch.float32, MATRIX_TYPES[compute.precision]]))


def type_name(dtype: torch.dtype) -> str:
    """As in "float32"."""
    return str(dtype).removeprefix("torch.")


def matrix_rate(compute: Compute, dtype: torch.dtype, effort: Effort) -> float:
    """Operations per second of the product of two square matrices, over the time of a training."""
    device = torch.device(compute.accelerator)
    size = effort.matrix_size if device.type == "cpu" else 4 * effort.matrix_size
    a, b = torch.randn(2, size, size, device=device).to(dtype)

    def multiply() -> None:
        torch.mm(a, b)
        if device.type != "cpu":
            torch.accelerator.synchronize()

    with torch_threads(compute):
        multiply()
        start, products, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < effort.training_seconds:
            multiply()
            products, elapsed = products + 1, time.perf_counter() - start
    return 2 * size**3 * products / elapsed


def process_seconds(command: Sequence[str], folder: str) -> tuple[float, float]:
    """Wall time and processor time of a command that is run in a folder."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def take_turns(
    title: str, measurements: Mapping[Key, Callable[[], Result]], rounds: int
) -> dict[Key, list[Result]]:
    """The results of each measurement; every round makes all of them once."""
    results: dict[Key, list[Result]] = {key: [] for key in measurements}
    for number in range(1, rounds + 1):
        show_progress(f"{title}, round {number} of {rounds}")
        for key, measure in measurements.items():
            results[key].append(measure())
    return results


def show_progress(message: str) -> None:
    """Print a message on stderr, with the seconds since the start."""
    print(f"{time.perf_counter() - START:4.0f} s: {message}", file=sys.stderr, flush=True)


def ratio(values: Iterable[float], references: Iterable[float]) -> float:
    """The median over the rounds of a value over the reference of the same round."""
    return statistics.median(a / b for a, b in zip(values, references, strict=True))
