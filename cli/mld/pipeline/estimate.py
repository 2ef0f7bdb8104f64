"""An estimate of a run by stage, and whether it fits on this machine."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from pydantic import JsonValue

from mld.config.spec import Spec
from mld.data.loading import open_dataset
from mld.pipeline.plan import Look, Plan, look_at
from mld.pipeline.prepare import data_fingerprint
from mld.pipeline.rehearsal import Rehearsal, rehearse
from mld.pipeline.stage_costs import CostModel, StageCost
from mld.pipeline.starting_run import open_starting_run, sections_of
from mld.runtime.compute import resolve
from mld.runtime.context import RunContext
from mld.runtime.memory import available_memory, private_memory
from mld.runtime.progress import Clock
from mld.storage.digests import digest
from mld.storage.run_dir import RunDir
from mld.storage.stages import DATA, PIPELINE, REPORT, stage_of_job
from mld.storage.weight_store import WeightStore
from mld.training.origin import training_origin
from mld_core import NumericalError, OutputError, PluginError, Registry, SpecError


@dataclass(frozen=True)
class Estimate:
    """The plan of a run, and what its stages cost.

    Args:
        stages: in order; none if the run could not be rehearsed.
    """

    plan: Plan
    stages: Sequence[StageCost]


@dataclass(frozen=True)
class Shared:
    """What the runs of a suite share, filled by their estimates one after the other.

    Args:
        trainings: those of earlier runs, whose weights the store will have.
        rehearsals: by what decides their times.
        items: bytes on disk, by fingerprint of the data.
    """

    trainings: set[str] = field(default_factory=set)
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)


RUN, STORE, TEMPORARY = "the run directory", "the weight store", "temporary files"


@dataclass(frozen=True)
class Room:
    """What this machine has left for a run, in bytes.

    Args:
        memory, device_memory: None if unknown.
        disks: the free space of each disk, and the folders on it: of the run, the store and
            temporary files.
    """

    memory: int | None
    device_memory: int | None
    disks: Sequence[tuple[int, frozenset[str]]]

    @property
    def training_memory(self) -> int | None:
        """Where networks are trained."""
        return self.memory if self.device_memory is None else self.device_memory

    @classmethod
    def of_this_machine(cls, run_dir: RunDir, store: WeightStore, accelerator: str) -> Room:
        """As it is now."""
        folders = {RUN: run_dir.path, STORE: store.root, TEMPORARY: Path(gettempdir())}
        names: dict[int, set[str]] = {}
        free: dict[int, int] = {}
        for name, folder in folders.items():
            folder = folder.absolute()
            existing = next(path for path in (folder, *folder.parents) if path.exists())
            disk = existing.stat().st_dev
            names.setdefault(disk, set()).add(name)
            free[disk] = shutil.disk_usage(existing).free
        on_gpu = accelerator == "cuda"
        device_memory = torch.cuda.mem_get_info()[0] if on_gpu else None
        disks = [(free[disk], frozenset(each)) for disk, each in names.items()]
        return cls(available_memory(), device_memory, disks)


def estimate(
    spec: Spec,
    registry: Registry,
    run_dir: RunDir,
    store: WeightStore,
    from_stage: str | None = None,
    start_seconds: float = 0.0,
    room: Room | None = None,
    shared: Shared | None = None,
    clock: Clock = time.perf_counter,
) -> Estimate:
    """The plan and the costs of a run, from a rehearsal of it; writes nothing to it or the store.

    Warnings and errors as of `plan`. RunDirError if a finished stage is out of date. SpecError or
    OutputError if the run cannot fit on this machine, with what to change.

    Args:
        run_dir: whose finished stages cost nothing.
        from_stage: is recomputed with those after it.
        start_seconds: that a process takes to be ready.
        room: by default that of this machine.
        shared: with runs that have been estimated before, if there are any.
    """
    shared = shared or Shared()
    dataset, start = open_dataset(spec, registry), open_starting_run(spec, registry)
    compute = resolve(spec.compute)
    context = RunContext(run_dir, store, compute, spec.seed, sections_of(spec, start))
    fingerprint = data_fingerprint(spec, registry, dataset.fingerprint(), context)
    finished = _finished_stages(fingerprint, context, from_stage)
    fitted_by = run_dir if DATA.name in finished else None
    seen = look_at(spec, registry, dataset, start, store, fitted_by)
    lacking = [name for name in seen.peek.modalities if name not in seen.peek.items]
    if lacking:
        _warn_of_unknown_costs(f"none of the first items of {', '.join(lacking)} can be used")
        return Estimate(seen.plan, [])
    room = room or Room.of_this_machine(run_dir, store, compute.accelerator)
    stages = [StageCost(stage.name, note="finished") for stage in PIPELINE]
    if len(finished) < len(PIPELINE):
        try:
            origin = _origins(fingerprint, context)
            stored = partial(_is_stored, origin, store, shared)
            costs = stage_costs(seen, stored, start_seconds, room, shared, clock)
            shared.trainings.update(digest(origin(job.name)) for job in seen.plan.jobs)
        except (PluginError, NumericalError) as error:
            # The networks of a run are better trained: it may not fail there.
            _warn_of_unknown_costs(f"a rehearsal failed: {error}")
            return Estimate(seen.plan, [])
        stages = [
            done if done.stage in finished else cost
            for done, cost in zip(stages, costs, strict=True)
        ]
    estimated = Estimate(seen.plan, stages)
    check_room(estimated, room)
    shared.items[digest(fingerprint)] = seen.item_bytes.disk
    return estimated


def _warn_of_unknown_costs(reason: str) -> None:
    warnings.warn(f"the costs of the run are unknown: {reason}", stacklevel=3)


def stage_costs(
    seen: Look,
    is_stored: Callable[[str], bool],
    start_seconds: float,
    room: Room,
    shared: Shared,
    clock: Clock,
) -> list[StageCost]:
    """Of a run of which no stage is finished.

    SpecError if a network does not fit, before it is rehearsed; PluginError if one is not trained.

    Args:
        is_stored: whether the store has the weights of a training, by name.
    """
    work = seen.workload()
    work = replace(work, jobs=[replace(job, is_stored=is_stored(job.name)) for job in work.jobs])
    start_memory = private_memory()
    for job in work.jobs:
        _check_memory(stage_of_job(job.name), job.training_bytes, room.training_memory, "memory")
    key = _rehearsal_key(seen)
    if key not in shared.rehearsals:
        shared.rehearsals[key] = rehearse(
            seen.spec,
            seen.registry,
            seen.coverage,
            seen.peek,
            resolve(seen.spec.compute),
            seen.subsets,
            seen.start,
            room.training_memory,
            clock,
        )
    rehearsal = shared.rehearsals[key]
    missed = [job.name for job in work.jobs if job.name not in rehearsal.trainings]
    if missed:
        # As of a plugin's network that has nothing to train once it is fitted.
        raise PluginError(f"it has not trained {', '.join(missed)}")
    return CostModel(work, rehearsal, seen.peek.seconds, start_seconds, start_memory).costs()


def _rehearsal_key(seen: Look) -> str:
    """Equal for runs that differ in nothing that decides how long a step or a row takes."""
    sections: dict[str, Any] = seen.spec.model_dump(mode="json", exclude={"name", "seed"})
    sections["data"].pop("missing", None)
    sections["generate"].pop("guidance", None)
    # What can be trained and sampled depends on the cells that are left.
    sections |= {"judges": asdict(seen.judges), "subsets": seen.subsets}
    return digest(sections)


def check_room(estimated: Estimate, room: Room) -> None:
    """SpecError or OutputError if a run cannot fit, with what to change."""
    stages = estimated.stages
    check_memory(stages, room, private_memory())
    check_disks(
        {
            RUN: sum(stage.disk for stage in stages) + max(stage.checkpoints for stage in stages),
            STORE: sum(stage.stored for stage in stages) + estimated.plan.item_bytes.disk,
            TEMPORARY: max(stage.temporary for stage in stages),
        },
        room,
    )


def check_disks(needed: Mapping[str, int], room: Room) -> None:
    """OutputError if a disk lacks room.

    Args:
        needed: bytes in each of the folders.
    """
    for free, folders in room.disks:
        size = sum(needed[folder] for folder in folders)
        if size > free:
            names = " and ".join(name for name in needed if name in folders)
            raise OutputError(
                f"{names} need {size / 1e9:.1f} GB, but the disk has room for {free / 1e9:.1f} GB: "
                "choose another with --out, MLD_STORE or TMPDIR, or fewer rows, samples or previews"
            )


def check_memory(stages: Sequence[StageCost], room: Room, in_use: int) -> None:
    """SpecError if a stage needs more memory than there is.

    Args:
        in_use: bytes that this process has already, which are counted for the run, too.
    """
    most = max(stages, key=lambda stage: stage.memory)
    _check_memory(most.stage, most.memory - in_use, room.memory, "memory")
    most = max(stages, key=lambda stage: stage.device_memory)
    _check_memory(most.stage, most.device_memory, room.device_memory, "GPU memory")


def _check_memory(stage: str, size: int, available: int | None, what: str) -> None:
    if available is not None and size > available:
        raise SpecError(
            f"stage {stage} needs about {size / 1e9:.1f} GB of {what}, but "
            f"{available / 1e9:.1f} GB are available: choose {_ADVICE[stage]}"
        )


_NETWORKS = "a smaller batch_size or smaller networks"
_ADVICE = {
    "data": "compute.items: disk, or fewer rows",
    "autoencode": _NETWORKS,
    "encode": "fewer rows or narrower latents",
    "diffuse": _NETWORKS,
    "generate": "a smaller generate.num_samples or fewer draws",
    "evaluate": "a smaller generate.num_samples, fewer subsets or draws",
    "report": "a smaller generate.num_samples",
}
"""What makes a stage need less memory."""


def _finished_stages(
    data: Mapping[str, JsonValue], context: RunContext, from_stage: str | None
) -> set[str]:
    """The stages that the run will load. RunDirError if one of them is out of date.

    Args:
        data: the fingerprint of the first stage.
    """
    run_dir, finished = context.run_dir, set[str]()
    for stage in PIPELINE:
        if stage.name == from_stage or not run_dir.is_complete(stage.name):
            break
        if stage is not REPORT:
            run_dir.is_current(stage.name, data if stage is DATA else context.fingerprint(stage))
        finished.add(stage.name)
    return finished


def _origins(
    data: Mapping[str, JsonValue], context: RunContext
) -> Callable[[str], Mapping[str, JsonValue]]:
    """Gives the origin of a training, by its name.

    Args:
        data: the fingerprint of the first stage.
    """
    digests = {DATA.name: digest(data)}
    for stage in PIPELINE[1:-1]:
        digests[stage.name] = digest(context.fingerprint(stage, digests.__getitem__))
    return lambda job: training_origin(job, context, digests.__getitem__)


def _is_stored(
    origin: Callable[[str], Mapping[str, JsonValue]], store: WeightStore, shared: Shared, job: str
) -> bool:
    """Whether the weights of a training are in the store, or will be after earlier runs."""
    known = origin(job)
    return digest(known) in shared.trainings or store.has_origin(known)
