"""What the open trials of a suite cost together, from estimates of them one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, schedule
from mld.config.spec import load_spec
from mld.pipeline.estimate import (
    RUN,
    STORE,
    TEMPORARY,
    Room,
    Shared,
    check_disks,
    check_memory,
    estimate,
)
from mld.pipeline.stage_costs import StageCost, list_schedule
from mld.runtime.compute import resolve
from mld.runtime.memory import private_memory
from mld.storage.weight_store import WeightStore
from mld_core import OutputError, Registry, SpecError


@dataclass(frozen=True)
class SuiteCost:
    """What trials cost, so many at once.

    Args:
        memory: bytes of those that run at the same time, at most.
        disk: bytes of all runs.
        stored: bytes that are added to the weight store, with items that are kept on disk.
        temporary: bytes of checkpoints and other files that are deleted.
        unknown: trials whose costs are unknown, which are left out.
    """

    seconds: float
    memory: int
    disk: int
    stored: int
    temporary: int
    unknown: int


def suite_cost(
    suite_dir: SuiteDir,
    trials: Sequence[Trial],
    slots: int,
    registry: Registry,
    store: WeightStore,
    start_seconds: float,
    is_local: bool = True,
    room: Room | None = None,
) -> SuiteCost:
    """The costs of open trials; a training that several of them share counts once.

    A rehearsal serves all trials that differ in seed, guidance or missing cells alone, if they
    train and sample the same. MLDError if a trial, or so many at once, cannot fit.

    Args:
        start_seconds: that the process of a trial takes to be ready.
        is_local: whether the trials run on this machine, whose memory then limits them.
        room: by default that of this machine.
    """
    shared, seconds, unknown = Shared(), list[float](), 0
    stages: list[list[StageCost]] = []
    with TemporaryDirectory(prefix="mld-") as folder:
        for trial in schedule(trials):
            path, run_dir = Path(folder) / "spec.yaml", suite_dir.run_dir(trial)
            path.write_text(trial.spec, encoding="utf-8")
            spec = load_spec(path, registry)
            room = room or Room.of_this_machine(run_dir, store, resolve(spec.compute).accelerator)
            if not is_local:
                room = replace(room, memory=None, device_memory=None)
            try:
                estimated = estimate(
                    spec, registry, run_dir, store, None, start_seconds, room, shared
                )
            except (SpecError, OutputError) as error:
                raise type(error)(f"{trial.coordinates}: {error}") from error
            unknown += not estimated.stages
            if estimated.stages:
                stages.append([*estimated.stages])
                seconds.append(start_seconds + sum(cost.seconds for cost in estimated.stages))
    peaks = [max(each, key=lambda stage: stage.memory) for each in stages]
    cost = SuiteCost(
        list_schedule(seconds, slots),
        _largest(slots, [peak.memory for peak in peaks]),
        sum(stage.disk for each in stages for stage in each),
        sum(stage.stored for each in stages for stage in each) + sum(shared.items.values()),
        _largest(slots, [max(s.checkpoints + s.temporary for s in each) for each in stages]),
        unknown,
    )
    if room is not None and peaks:
        highest = max(peaks, key=lambda peak: peak.memory)
        in_use = min(slots, len(peaks)) * private_memory()
        check_memory([StageCost(highest.stage, memory=cost.memory)], room, in_use)
        check_disks({RUN: cost.disk, STORE: cost.stored, TEMPORARY: cost.temporary}, room)
    return cost


def _largest(count: int, sizes: Sequence[int]) -> int:
    """The sum of the largest ones."""
    return sum(sorted(sizes, reverse=True)[:count])
