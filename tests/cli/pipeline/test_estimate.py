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
from mld.pipeline.measures import (
    MeasuredSampling,
    MeasuredStage,
    MeasuredTraining,
    SavedTensor,
    SavedTensors,
)
from mld.pipeline.peek import ReadSeconds, peek
from mld.pipeline.plan import look
from mld.pipeline.rehearsal import Rehearsal, timed_training
from mld.pipeline.stage_costs import CostModel, StageCost, list_schedule
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
        assert costs[name].disk == pytest.approx(size, rel=0.2), name
    files = [path.stat() for path in (finished_run.parent / "store").glob("*/*.safe*")]
    # Later ones are those of other tests.
    stored = sum(f.st_size for f in files if f.st_mtime <= run_dir.report.stat().st_mtime)
    headers = 4096 * len(estimated.plan.jobs)
    assert stored - headers < sum(cost.stored for cost in estimated.stages) < stored


def test_every_stage_takes_time_and_memory(estimated: Estimate) -> None:
    assert all(cost.seconds > 0 for cost in estimated.stages)
    assert all(cost.memory > 2**26 for cost in estimated.stages)
    assert {cost.note for cost in estimated.stages} == {""}
    (diffuse,) = (cost for cost in estimated.stages if cost.stage == "diffuse")
    (job,) = (job for job in estimated.plan.jobs if job.name == "diffuse")
    # Weights, average, best average, and two moments.
    assert diffuse.checkpoints == 5 * 4 * job.parameters


def rehearsal(rows: int, seconds: float) -> Rehearsal:
    """One in which every stage takes as long, and every step half a second."""
    stage = MeasuredStage(seconds, {".safetensors": 10 * rows, ".png": rows // 8}, GIB, 0)
    training = MeasuredTraining(16, 0.5, 0, 0)
    return Rehearsal(
        rows,
        previews=rows // 8,
        stages=dict.fromkeys(STAGE_NAMES, stage),
        trainings=dict.fromkeys([*JOBS, "diffuse"], training),
        sampling=MeasuredSampling(0.01, 0.001, seconds / 2),
    )


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
    return CostModel(work, rehearsal(8, 5.0), rehearsal(64, 4.0), reading, 3.0, 0)


def test_times_are_those_of_all_rows_and_steps(model: CostModel) -> None:
    seconds = {cost.stage: cost.seconds for cost in model.costs()}
    assert seconds["data"] == pytest.approx(3 + 1 + 100 * 0.001 + 140 * 0.002)
    # Two at once, each with 10 steps of twice as many rows as were timed.
    assert seconds["autoencode"] == pytest.approx(4 + 10)
    assert seconds["diffuse"] == pytest.approx(4 + 10)
    assert seconds["encode"] == pytest.approx(4 * model.work.rows / (3 * 64))
    sampling = 100 * (0.01 + 0.04) + 50 * (0.01 + 0.02)
    assert seconds["generate"] == pytest.approx(sampling + 2)
    assert seconds["evaluate"] == pytest.approx(4 * 250 / (64 * 3) + 10)
    assert seconds["report"] == 4


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


def test_a_longer_step_is_timed_less_often_and_on_fewer_rows() -> None:
    def training(step_seconds: float, batch_size: int) -> tuple[int, int]:
        timed = timed_training(batch_size, MeasuredTraining(32, step_seconds, 0, 0))
        return timed.steps, timed.rows

    assert training(0.01, 32) == (40, 32)
    assert training(0.0001, 32) == (50, 32)
    assert training(0.1, 64) == (3, 64)
    assert training(1.0, 512) == (3, 64)
    assert training(100.0, 512) == (3, 32)


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
