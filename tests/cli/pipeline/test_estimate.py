"""What the stages of a run cost, told beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from mld.config.spec import Spec
from mld.data.loading import open_dataset
from mld.pipeline import estimate as estimates
from mld.pipeline.estimate import RUN, STORE, TEMPORARY, Estimate, Room, check_room, estimate
from mld.pipeline.measures import MeasuredSampling, MeasuredStage
from mld.pipeline.peek import ReadSeconds, peek
from mld.pipeline.plan import look
from mld.pipeline.rehearsal import Rehearsal, RehearsedStages
from mld.pipeline.stage_costs import CostModel, StageCost, list_schedule
from mld.pipeline.timed_training import (
    MeasuredTraining,
    SavedTensor,
    SavedTensors,
    timed_rows,
)
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld.storage.weight_store import WeightStore
from mld_core import OutputError, Registry, RunDirError, SpecError

GIB = 2**30
LARGE = Room(1000 * GIB, None, [(1000 * GIB, frozenset({RUN, STORE, TEMPORARY}))])
JOBS = [f"{stage}/{name}" for stage in ("autoencode", "classify") for name in ("a", "b")]


@pytest.fixture(scope="module")
def estimated(
    make_spec: Callable[..., Spec], registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Estimate:
    """The estimate of the small run, which leaves nothing behind."""
    folder = tmp_path_factory.mktemp("estimate")
    run_dir, store = RunDir(folder / "run"), WeightStore(folder / "store")
    result = estimate(make_spec(), registry, run_dir, store, room=LARGE)
    assert not [*folder.iterdir()]
    return result


def test_sizes_of_files_are_those_of_a_run(estimated: Estimate, finished_run: Path) -> None:
    run_dir, costs = RunDir(finished_run), {cost.stage: cost for cost in estimated.stages}
    assert [*costs] == [*STAGE_NAMES]
    sizes = {name: sum(run_dir.stage_bytes(name).values()) for name in STAGE_NAMES}
    for name, size in sizes.items():
        # The tables of a report are those of two subsets.
        assert costs[name].disk == pytest.approx(size, rel=0.25), name
    weights = [
        *(finished_run / "autoencoders").iterdir(),
        *(finished_run / "classifiers").iterdir(),
    ]
    sizes_of_weights = [path.stat().st_size for path in (*weights, run_dir.network, run_dir.ema)]
    stored = sum(cost.stored for cost in estimated.stages)
    assert stored == pytest.approx(sum(sizes_of_weights), rel=0.1)


def test_every_stage_takes_time_and_memory(estimated: Estimate) -> None:
    assert all(cost.seconds > 0 for cost in estimated.stages)
    assert all(cost.memory > 2**26 for cost in estimated.stages)
    assert {cost.note for cost in estimated.stages} == {""}
    (diffuse,) = (cost for cost in estimated.stages if cost.stage == "diffuse")
    (job,) = (job for job in estimated.plan.jobs if job.name == "diffuse")
    # Weights, average, best average, and two moments.
    assert diffuse.checkpoints == 5 * 4 * job.parameters


def rehearsed(rows: int, seconds: float) -> RehearsedStages:
    """Stages that all take as long."""
    stage = MeasuredStage(seconds, {".safetensors": 10 * rows, ".png": rows // 8}, GIB, 0)
    return RehearsedStages(rows, rows // 8, dict.fromkeys(STAGE_NAMES, stage))


REHEARSAL = Rehearsal(
    few=rehearsed(8, 3.0),
    more=rehearsed(64, 4.0),
    subsets=[(), ("a",)],
    trainings=dict.fromkeys([*JOBS, "diffuse"], MeasuredTraining(16, 0.5, 8, 0, 0)),
    sampling=MeasuredSampling(0.01, 0.001, 2.0),
)
"""One in which every step takes half a second."""


@pytest.fixture
def model(make_spec: Callable[..., Spec], registry: Registry) -> CostModel:
    """Of two modalities, each of which takes a second to start with and a millisecond an item."""
    work = look(make_spec(), registry, WeightStore(Path("none"))).workload()
    jobs = [replace(work.jobs[0], name=name, steps=10, batch_size=32) for name in JOBS]
    work = replace(
        work,
        items={"a": (100, 140), "b": (100, 140)},
        item_bytes={"a": 4, "b": 4},
        jobs=[*jobs, replace(jobs[0], name="diffuse", averages=1)],
        nfe={"joint": 40.0, "a": 20.0},
        samples={"joint": 100, "a": 50},
        targets={"joint": ["a", "b"], "a": ["b"]},
        previews=8,
        draws=1,
        workers=2,
    )
    reading = dict.fromkeys("ab", ReadSeconds(1.0, 0.001, 0.002))
    return CostModel(work, REHEARSAL, reading, 3.0, 0)


def test_times_are_those_of_all_rows_and_steps(model: CostModel) -> None:
    seconds = {cost.stage: cost.seconds for cost in model.costs()}
    assert seconds["data"] == pytest.approx(3 + 1 + 100 * 0.001 + 140 * 0.002)
    # Two at once, each with 10 steps of twice as many rows as were timed.
    assert seconds["autoencode"] == pytest.approx(4 + 10)
    assert seconds["diffuse"] == pytest.approx(4 + 10)
    assert seconds["encode"] == pytest.approx(4 * model.work.rows / (3 * 64))
    sampling = 100 * (0.01 + 0.04) + 50 * (0.01 + 0.02)
    assert seconds["generate"] == pytest.approx(sampling + 2)
    # Half of it is of items.
    assert seconds["evaluate"] == pytest.approx(2 + 2 * 250 / (64 * 3) + 10)
    assert seconds["report"] == 4


def test_an_evaluation_is_of_items_and_of_each_modality_of_a_subset(model: CostModel) -> None:
    def seconds(few: float, targets: dict[str, list[str]]) -> float:
        rehearsal = replace(REHEARSAL, few=rehearsed(8, few))
        work = replace(model.work, targets=targets, samples=dict.fromkeys(targets, 64))
        (cost,) = (
            cost
            for cost in replace(model, work=work, rehearsal=rehearsal).costs()
            if cost.stage == "evaluate"
        )
        return cost.seconds - 10  # of its trainings

    same = {"joint": ["a", "b"], "a": ["b"]}
    more = {**same, "b": ["a"]}
    for few in (0.0, 0.5, 3.0, 5.0):
        assert seconds(few, same) == pytest.approx(4)
        assert seconds(few, more) == pytest.approx(4 * 4 / 3)
    halved = replace(model.work, targets=same, samples=dict.fromkeys(same, 32))
    costs = replace(model, work=halved, rehearsal=replace(REHEARSAL, few=rehearsed(8, 0.5)))
    (evaluate,) = (cost for cost in costs.costs() if cost.stage == "evaluate")
    assert evaluate.seconds - 10 == pytest.approx(2)


def test_trainings_that_are_stored_or_limited_take_less(model: CostModel) -> None:
    def seconds(**changes: Any) -> float:
        jobs = [replace(job, **changes) for job in model.work.jobs]
        costs = replace(model, work=replace(model.work, jobs=jobs)).costs()
        assert (costs[3].note == "") == ("is_stored" not in changes)
        return costs[3].seconds

    assert seconds(time_limit=3.0) == pytest.approx(4 + 3)
    assert seconds(is_stored=True) == pytest.approx(4)


def test_tasks_go_to_the_first_free_worker() -> None:
    assert list_schedule([3, 2, 2, 1], 2) == 4
    assert list_schedule([3, 2, 2, 1], 1) == 8
    assert list_schedule([], 2) == 0


@pytest.mark.parametrize(
    ("seconds", "activations", "expected"),
    [(0.001, 10, 64), (0.125, 10, 32), (10.0, 10, 8), (0.001, 125, 32), (0.001, 10_000, 8)],
)
def test_a_step_that_takes_much_is_timed_on_fewer_rows(
    seconds: float, activations: int, expected: int
) -> None:
    assert timed_rows(64, 8, seconds, activations, 1000) == expected
    assert timed_rows(64, 8, 0.001, activations, None) == 64
    assert timed_rows(8, 8, 0.001, 1, 1000) == 8


def test_reading_is_timed_by_item(make_spec: Callable[..., Spec], registry: Registry) -> None:
    spec, seconds = make_spec("data.train=10"), count()
    seen = peek(spec, registry, open_dataset(spec, registry), clock=lambda: float(next(seconds)))
    assert set(seen.seconds.values()) == {ReadSeconds(0.0, 0.1, 0.1)}
    assert len(seen.data(25).train.ids) == 25


def test_tensors_that_a_backward_pass_needs_are_counted_once() -> None:
    weight = torch.randn(5, 10, requires_grad=True)
    x = torch.randn(20, 10)
    saved = SavedTensors()
    for _ in range(2):
        with saved_tensors_hooks(saved.pack, SavedTensor.unpack):
            y = torch.nn.functional.linear(x, weight).tanh()
            z = (y * y).sum()
        z.backward()
        del y, z
    # The input and the result of tanh; the weight needs no gradient of x.
    assert saved.most_bytes == 4 * (20 * 10 + 20 * 5)


@pytest.mark.parametrize(
    ("room", "error", "message"),
    [
        ({"memory": 3 * GIB}, SpecError, "stage diffuse needs about 9.7 GB of memory, but 3.2"),
        ({"device_memory": GIB}, SpecError, "needs about 2.1 GB of GPU memory.*smaller batch_size"),
        ({"disks": [(GIB, frozenset({RUN}))]}, OutputError, "^the run directory need 2.1 GB, but"),
        ({"disks": [(5 * GIB, frozenset({RUN, STORE}))]}, OutputError, "directory and the weight"),
        ({"disks": [(GIB, frozenset({TEMPORARY}))]}, OutputError, "^temporary files need 4.3 GB"),
        ({"disks": [(3 * GIB, frozenset({RUN}))]}, None, ""),
    ],
)
def test_what_cannot_fit_is_an_error(
    estimated: Estimate,
    monkeypatch: pytest.MonkeyPatch,
    room: dict[str, Any],
    error: type[Exception] | None,
    message: str,
) -> None:
    monkeypatch.setattr(estimates, "private_memory", lambda: GIB)
    data = StageCost("data", memory=2 * GIB, disk=GIB, temporary=4 * GIB)
    diffuse = StageCost("diffuse", memory=10 * GIB, device_memory=2 * GIB, checkpoints=GIB)
    costly = replace(estimated, stages=[data, replace(diffuse, stored=4 * GIB)])
    check_room(costly, LARGE)
    if error is None:
        check_room(costly, replace(LARGE, **room))
        return
    with pytest.raises(error, match=message):
        check_room(costly, replace(LARGE, **room))


def test_a_batch_that_does_not_fit_is_not_tried(
    make_spec: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    run_dir, store = RunDir(tmp_path / "run"), WeightStore(tmp_path / "store")
    spec = make_spec("diffuse.batch_size=100000000")
    with pytest.raises(SpecError, match=r"stage diffuse needs .* choose a smaller batch_size"):
        estimate(spec, registry, run_dir, store, room=replace(LARGE, memory=4 * GIB))


def test_stored_trainings_are_those_of_the_same_data_and_settings(
    make_spec: Callable[..., Spec],
    registry: Registry,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = WeightStore(finished_run.parent / "store")
    names = ("left", "right", "third")
    autoencoders = {f"autoencode/{name}" for name in names}
    classifiers = {f"classify/{name}" for name in names}

    def stored(*overrides: str) -> set[str]:
        jobs: set[str] = set()

        def costs(seen: Any, is_stored: Callable[[str], bool], *_: Any) -> list[StageCost]:
            jobs.update(job.name for job in seen.workload().jobs if is_stored(job.name))
            return [StageCost(name) for name in STAGE_NAMES]

        monkeypatch.setattr(estimates, "stage_costs", costs)
        estimate(make_spec(*overrides), registry, RunDir(tmp_path / "run"), store, room=LARGE)
        return jobs

    assert (
        stored()
        == stored("generate.steps=11", "compute.items=disk")
        == {*autoencoders, *classifiers, "diffuse"}
    )
    assert stored("diffuse.steps=7") == {*autoencoders, *classifiers}
    assert stored("autoencode.steps=7") == classifiers
    assert stored("evaluate.steps=7") == {*autoencoders, "diffuse"}
    assert not stored("seed=5")
    assert not stored("data.train=399")


def test_finished_stages_cost_nothing(
    make_spec: Callable[..., Spec],
    registry: Registry,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir = RunDir(shutil.copytree(finished_run, tmp_path / "run"))
    store = WeightStore(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    costs = [StageCost(name, 1.0) for name in STAGE_NAMES]
    monkeypatch.setattr(estimates, "stage_costs", lambda *_: costs)

    def notes(*overrides: str, from_stage: str | None = None) -> list[str]:
        spec = make_spec(*overrides)
        stages = estimate(spec, registry, run_dir, store, from_stage, room=LARGE).stages
        assert all((cost.seconds == 0) == (cost.note == "finished") for cost in stages)
        return [cost.note for cost in stages]

    assert notes() == ["finished"] * 7
    assert notes(from_stage="generate") == ["finished"] * 4 + [""] * 3
    assert notes("generate.steps=11", from_stage="generate") == ["finished"] * 4 + [""] * 3
    with pytest.raises(RunDirError, match="stage generate is out of date"):
        notes("generate.steps=11")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_on_several_nodes_that_starts_from_another_one_is_rehearsed_on_this_machine(
    make_spec: Callable[..., Spec],
    registry: Registry,
    finished_run: Path,
    tmp_path: Path,
) -> None:
    spec = make_spec(
        f"start_from={finished_run}", "compute.nodes=2", "diffuse.steps=1000", "diffuse.keep=last"
    )
    run_dir, store = RunDir(tmp_path / "run"), WeightStore(tmp_path / "store")
    estimated = estimate(spec, registry, run_dir, store, room=LARGE)
    jobs = [job.name for job in estimated.plan.jobs]
    assert jobs == ["diffuse", "classify/left", "classify/right", "classify/third"]
    costs = {cost.stage: cost for cost in estimated.stages}
    assert costs["autoencode"].stored == costs["autoencode"].checkpoints == 0
    assert costs["autoencode"].disk > 0
    assert costs["diffuse"].seconds > costs["encode"].seconds
    assert all(cost.seconds > 0 and cost.memory > 2**26 for cost in estimated.stages)
    assert not [*tmp_path.iterdir()]
