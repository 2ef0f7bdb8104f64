"""What each stage of a run costs: time, memory and disk, from what a rehearsal has measured."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mld.config.sections import JOINT
from mld.data.types import subset_key
from mld.evaluation.evaluator import MAX_ITEM_BYTES
from mld.pipeline.measures import MeasuredStage
from mld.pipeline.peek import ReadSeconds
from mld.pipeline.rehearsal import MAX_DRAWS, Rehearsal, RehearsedStages
from mld.storage.stages import DIFFUSE, stage_of_job
from mld_core import SPLITS

FLOAT_BYTES = 4
TENSORS, SCORES = ".safetensors", ".json"


@dataclass(frozen=True)
class PlannedJob:
    """One training: its network's parameters, its steps and rows per step.

    Args:
        is_exact: False if the network depends on facts of the training split, such as a vocabulary:
            its parameters are then those for the few items that were read. False also of the judge
            of pairs, whose projections are not counted.
        averages: of the weights that are kept beside the last ones, 0 or 1.
        time_limit: in seconds; None for none.
        is_stored: whether the weight store holds the trained weights.
    """

    name: str
    parameters: int
    is_exact: bool
    steps: int
    batch_size: int
    averages: int = 0
    time_limit: float | None = None
    is_stored: bool = False

    @property
    def weight_bytes(self) -> int:
        """Of the parameters."""
        return FLOAT_BYTES * self.parameters

    @property
    def checkpoint_bytes(self) -> int:
        """The weights, their average and the best of it, and two moments of the gradients."""
        return (3 + 2 * self.averages) * self.weight_bytes

    @property
    def training_bytes(self) -> int:
        """In memory beside activations: a checkpoint and a copy of it, the initial weights, and the
        gradients."""
        return 2 * self.checkpoint_bytes + 2 * self.weight_bytes


@dataclass(frozen=True)
class Workload:
    """How much there is to do.

    Args:
        rows: of all splits.
        items: by modality, of the training split and of all.
        item_bytes: by modality, of one item as the networks see it.
        kept_bytes: of all packed items in memory.
        joint_dim: width of the joint latent.
        jobs: the trainings.
        nfe, samples: network evaluations of a sample, and samples, by subset.
        targets: generated modalities by subset.
        evaluated_rows: of the split that samples are compared with.
        draws: of each row that a sample is conditioned on.
        previews: of each subset.
        workers: processes that train side by side; 1 if this one trains.
        devices: that share every batch.
        shares: processes that share the batches of the joint model.
        on_device: whether networks are trained on a GPU.
    """

    rows: int
    items: Mapping[str, tuple[int, int]]
    item_bytes: Mapping[str, int]
    kept_bytes: int
    joint_dim: int
    jobs: Sequence[PlannedJob]
    nfe: Mapping[str, float]
    samples: Mapping[str, int]
    targets: Mapping[str, Sequence[str]]
    evaluated_rows: int
    draws: int
    previews: int
    workers: int
    devices: int
    shares: int
    on_device: bool


@dataclass(frozen=True)
class StageCost:
    """What a stage costs.

    Args:
        memory: bytes of all processes at its peak, without mapped files.
        device_memory: bytes of a GPU at its peak; 0 on a processor.
        disk: bytes of its files in the run directory.
        stored: bytes that it adds to the weight store.
        checkpoints: bytes in the run directory that are deleted at its end.
        temporary: bytes of items in files for other processes.
        note: why it costs little, such as "finished"; "" if it costs all.
    """

    stage: str
    seconds: float = 0.0
    memory: int = 0
    device_memory: int = 0
    disk: int = 0
    stored: int = 0
    checkpoints: int = 0
    temporary: int = 0
    note: str = ""


@dataclass(frozen=True)
class CostModel:
    """Costs of a workload, from a rehearsal of it.

    Args:
        reading: by modality.
        start_seconds: that a process takes to be ready.
        start_memory: bytes of a process that is ready.
    """

    work: Workload
    rehearsal: Rehearsal
    reading: Mapping[str, ReadSeconds]
    start_seconds: float
    start_memory: int

    def costs(self) -> list[StageCost]:
        """Of every stage, in order."""
        work = self.work
        return [
            self._cost("data", self._reading_seconds(), temporary=self._shared_items),
            self._of_trainings("autoencode", temporary=self._shared_items),
            self._cost(
                "encode",
                self._measured("encode").seconds * work.rows / self._rows(self.rehearsal.more),
                disk=sum(
                    self._line("encode", suffix, self._rows, work.rows)
                    for suffix in self._measured("encode").file_bytes
                ),
            ),
            self._of_trainings("diffuse"),
            self._cost(
                "generate",
                self._sampling_seconds() + self._preview_seconds(),
                memory=self._sampled,
                disk=self._sample_bytes() + self._preview_bytes("generate"),
            ),
            self._of_trainings(
                "evaluate",
                seconds=self._evaluation_seconds(),
                memory=self._sampled,
                later_memory=self._decoded(),
                disk=self._evaluation_bytes(),
                temporary=self._shared_items,
            ),
            self._cost(
                "report",
                self._measured("report").seconds,
                disk=self._preview_bytes("report"),
            ),
        ]

    def _cost(
        self,
        stage: str,
        seconds: float,
        memory: int = 0,
        disk: int | None = None,
        temporary: int = 0,
    ) -> StageCost:
        """Of a stage without trainings, by default with as many bytes of files as rehearsed.

        Args:
            memory: beside that of idle processes and of the items.
        """
        measured = self._measured(stage)
        return StageCost(
            stage,
            seconds,
            self._idle_memory(stage) + memory,
            measured.device_bytes,
            sum(measured.file_bytes.values()) if disk is None else disk,
            temporary=temporary,
        )

    def _of_trainings(
        self,
        stage: str,
        seconds: float | None = None,
        memory: int = 0,
        later_memory: int = 0,
        disk: int | None = None,
        temporary: int = 0,
    ) -> StageCost:
        """Of a stage with trainings.

        Args:
            seconds: of all else; by default as rehearsed.
            later_memory: when the trainings have ended.
        """
        jobs = [job for job in self.work.jobs if stage_of_job(job.name) == stage]
        open_jobs = [job for job in jobs if not job.is_stored]
        reused = f"{len(jobs) - len(open_jobs)} of {len(jobs)} trainings are stored"
        other = self._measured(stage).seconds if seconds is None else seconds
        seconds = other + self._training_seconds(open_jobs)
        cost = self._cost(stage, seconds, memory, disk, temporary)
        training = self._training_memory(open_jobs)
        on_device = training if self.work.on_device else 0
        saved = [job for job in open_jobs if not self.work.on_device]
        return replace(
            cost,
            memory=cost.memory + max(self._training_memory(saved), later_memory),
            device_memory=max(cost.device_memory, on_device),
            stored=sum(job.weight_bytes * (1 + job.averages) for job in open_jobs),
            checkpoints=sum(job.checkpoint_bytes for job in open_jobs),
            note="" if len(open_jobs) == len(jobs) else reused,
        )

    def _measured(self, stage: str) -> MeasuredStage:
        return self.rehearsal.more.stages[stage]

    def _rows(self, part: RehearsedStages) -> int:
        """Of all splits."""
        return len(SPLITS) * part.rows

    @property
    def _sampled(self) -> int:
        """Bytes of the latents of all samples."""
        work = self.work
        return FLOAT_BYTES * work.joint_dim * sum(map(self._drawn, work.samples))

    def _drawn(self, subset: str) -> int:
        """Samples of a subset, with all draws of a row."""
        work = self.work
        return work.samples[subset] * (work.draws if subset != JOINT else 1)

    @property
    def _shared_items(self) -> int:
        """Bytes of items in memory that are written for other processes."""
        return self.work.kept_bytes if self.work.workers > 1 else 0

    def _idle_memory(self, stage: str) -> int:
        """Of all processes, with the items that are in memory."""
        work = self.work
        workers = work.workers if work.workers > 1 else 0
        parent = self.rehearsal.few.stages[stage].memory
        return parent + workers * self.start_memory + work.kept_bytes

    def _reading_seconds(self) -> float:
        """Each modality by one of the workers, which have to start first."""
        work = self.work
        seconds = [
            reading.start + reading.fit * work.items[name][0] + reading.read * work.items[name][1]
            for name, reading in self.reading.items()
        ]
        return list_schedule(seconds, work.workers) + self.start_seconds * (work.workers > 1)

    def _training_seconds(self, jobs: Sequence[PlannedJob]) -> float:
        """The networks of modalities side by side, the longest first; others alone."""
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for job in sorted(jobs, key=lambda job: -job.steps * job.batch_size):
            measured = self.rehearsal.trainings[job.name]
            step = measured.step_seconds * self._batch(job) / measured.rows
            limit = math.inf if job.time_limit is None else job.time_limit
            seconds["/" in job.name].append(min(limit, step * job.steps))
        return list_schedule(seconds[True], self.work.workers) + sum(seconds[False])

    def _training_memory(self, jobs: Sequence[PlannedJob]) -> int:
        """The largest that are trained at the same time."""
        sizes = sorted((job.training_bytes + self._activations(job) for job in jobs), reverse=True)
        if any(job.name == DIFFUSE.job for job in jobs):
            return self.work.shares * sum(sizes)
        return sum(sizes[: self.work.workers])

    def _activations(self, job: PlannedJob) -> int:
        """Bytes that the backward pass of a batch needs, or of a process's share of it."""
        measured = self.rehearsal.trainings[job.name]
        rows = self._batch(job) / measured.activation_rows
        return round(max(0, measured.activations - job.weight_bytes) * rows)

    def _batch(self, job: PlannedJob) -> int:
        """Rows of a step on one device."""
        return job.batch_size // self.work.devices

    def _sampling_seconds(self) -> float:
        sampling = self.rehearsal.sampling
        return sum(
            self._drawn(subset) * (sampling.seconds + nfe * sampling.evaluation_seconds)
            for subset, nfe in self.work.nfe.items()
        )

    def _preview_seconds(self) -> float:
        """Of writing samples as files."""
        sampled = self.rehearsal.sampling.rehearsed_seconds
        writing = max(0.0, self._measured("generate").seconds - sampled)
        return writing * self._previews / max(1, self._previews_of(self.rehearsal.more))

    def _evaluation_seconds(self) -> float:
        """Of an overhead of each subset's modality, and of all items.

        Of the rehearsed time, at least half is of items: with few of them, differences are small.
        """
        few, more = self.rehearsal.few, self.rehearsal.more
        seconds = more.stages["evaluate"].seconds
        growth = seconds - few.stages["evaluate"].seconds
        part = growth * more.rows / (more.rows - few.rows)
        of_items = min(seconds, max(seconds / 2, part))
        return (seconds - of_items) * self._cells + of_items * self._shown / self._shown_by(more)

    @property
    def _cells(self) -> float:
        """Modalities that are generated, of all subsets, for each that is rehearsed."""
        rehearsed = [subset_key(given) for given in self.rehearsal.subsets]
        targets = {subset: len(names) for subset, names in self.work.targets.items()}
        return sum(targets.values()) / sum(targets[subset] for subset in rehearsed)

    @property
    def _shown(self) -> int:
        """Items that are evaluated, with all draws."""
        return sum(self._drawn(subset) * len(names) for subset, names in self.work.targets.items())

    def _shown_by(self, part: RehearsedStages) -> int:
        draws = min(MAX_DRAWS, self.work.draws)
        subsets = [subset_key(given) for given in self.rehearsal.subsets]
        return part.rows * sum(
            len(self.work.targets[subset]) * (draws if subset != JOINT else 1) for subset in subsets
        )

    @property
    def _previews(self) -> int:
        """Of all subsets."""
        return self.work.previews * len(self.work.samples)

    def _previews_of(self, part: RehearsedStages) -> int:
        return part.previews * len(self.rehearsal.subsets)

    def _sample_bytes(self) -> int:
        copies = len(self.work.samples) / len(self.rehearsal.subsets)
        return self._line("generate", TENSORS, self._shown_by, self._shown, copies)

    def _preview_bytes(self, stage: str) -> int:
        """Of files that show samples."""
        suffixes = {*self._measured(stage).file_bytes}
        return sum(
            self._line(stage, suffix, self._previews_of, self._previews)
            for suffix in suffixes - {TENSORS}
        )

    def _evaluation_bytes(self) -> int:
        """Of classifiers and plots, and of scores, half of which are of a subset's modality."""
        sizes = self._measured("evaluate").file_bytes
        more = (self._cells - 1) / 2 * sizes.get(SCORES, 0)
        return round(sum(sizes.values()) + more)

    def _line(
        self,
        stage: str,
        suffix: str,
        amount: Callable[[RehearsedStages], int],
        planned: int,
        copies: float = 1.0,
    ) -> int:
        """Bytes of files that grow evenly with an amount, by what the two parts wrote.

        Args:
            copies: files of the run for each that was written.
        """
        few, more = self.rehearsal.few, self.rehearsal.more
        sizes = [part.stages[stage].file_bytes.get(suffix, 0) for part in (few, more)]
        start, end = amount(few), amount(more)
        slope = (sizes[1] - sizes[0]) / (end - start) if end > start else 0.0
        return max(0, round(copies * (sizes[1] - slope * end) + slope * planned))

    def _decoded(self) -> int:
        """Bytes of decoded samples, and of the real items beside their reconstructions."""
        work = self.work
        samples = sum(
            count * work.item_bytes[name]
            for subset, count in work.samples.items()
            for name in work.targets[subset]
        )
        real = sum(
            2 * min(MAX_ITEM_BYTES, work.evaluated_rows * size) for size in work.item_bytes.values()
        )
        draws = max(
            (
                2 * self._drawn(subset) * work.item_bytes[name]
                for subset, names in work.targets.items()
                for name in names
                if work.draws > 1
            ),
            default=0,
        )
        return samples + real + draws


def list_schedule(seconds: Iterable[float], workers: int) -> float:
    """How long tasks take that are begun in this order, each by the first worker that is free."""
    free_at = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)
