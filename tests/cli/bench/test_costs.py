"""What a suite costs, told beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mld.bench import costs
from mld.bench.costs import SuiteCost, suite_cost
from mld.bench.suite import load_suite
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial, make_trials, unique_runs
from mld.pipeline import estimate as estimates
from mld.pipeline.estimate import RUN, STORE, TEMPORARY, Room
from mld.pipeline.measures import MeasuredSampling, MeasuredStage
from mld.pipeline.rehearsal import Rehearsal, RehearsedStages
from mld.pipeline.stage_costs import CostModel
from mld.pipeline.timed_training import MeasuredTraining
from mld.storage.stages import STAGE_NAMES
from mld.storage.weight_store import WeightStore
from mld_core import OutputError, Registry, SpecError

GIB = 2**30
JOBS = [f"{stage}/{name}" for stage in ("autoencode", "classify") for name in ("a", "b")]


def rehearsed(rows: int) -> RehearsedStages:
    """Stages that take no time, in two gigabytes."""
    stage = MeasuredStage(0.0, {".txt": 1000}, 2 * GIB, 0)
    return RehearsedStages(rows, 0, dict.fromkeys(STAGE_NAMES, stage))


@pytest.fixture
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The specs that are rehearsed; a step of every training takes a second."""
    specs: list[Any] = []

    def rehearse(spec: Any, *_: Any) -> Rehearsal:
        specs.append(spec)
        training = MeasuredTraining(128, 1.0, 8, 0, 0)
        subsets: list[tuple[str, ...]] = [(), ("a",)]
        trainings = dict.fromkeys(JOBS, training) | {"diffuse": MeasuredTraining(16, 1.0, 8, 0, 0)}
        sampling = MeasuredSampling(0.0, 0.0, 0.0)
        return Rehearsal(rehearsed(8), rehearsed(64), subsets, trainings, sampling)

    monkeypatch.setattr(estimates, "rehearse", rehearse)
    monkeypatch.setattr(CostModel, "_reading_seconds", lambda _: 0.0)
    # That of this process depends on the tests before.
    for module in (estimates, costs):
        monkeypatch.setattr(module, "private_memory", lambda: GIB // 4)
    return specs


@pytest.fixture
def cost_of(
    write_suite: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[SuiteCost, list[Trial]]]:
    """The costs of the trials of a suite of two modalities, and these."""

    def cost(*changes: tuple[str, str], slots: int = 1, is_local: bool = True, **room: Any) -> Any:
        registry = Registry()
        base = (("subsets: [[], [a], [b, c]]", "subsets: [[], [a]]"),)
        suite = load_suite(write_suite(*changes, base=base))
        trials = unique_runs(make_trials(suite, registry))
        large = [(1000 * GIB, frozenset({RUN, STORE, TEMPORARY}))]
        rooms = {"memory": 1000 * GIB, "device_memory": None, "disks": large, **room}
        suite_dir, store = SuiteDir(tmp_path / "out"), WeightStore(tmp_path / "store")
        cost = suite_cost(suite_dir, trials, slots, registry, store, 0.25, is_local, Room(**rooms))
        return cost, trials

    return cost


def test_a_training_that_trials_share_counts_once(
    cost_of: Callable[..., Any], rehearsals: list[Any]
) -> None:
    cost, trials = cost_of()
    assert len(trials) == 4
    # Of each of two seeds, two autoencoders of 5 and 6 steps, two classifiers of 5, two networks.
    assert cost.seconds == pytest.approx(4 * 0.25 + 2 * (5 + 6 + 2 * 5 + 2 * 5), rel=0.02)
    # Seeds share a rehearsal.
    assert [spec.diffuse.roles for spec in rehearsals] == ["three-role", "paper"]
    assert (cost.memory, cost.unknown) == (pytest.approx(2 * GIB, rel=0.1), 0)
    assert cost.disk > 4 * len(STAGE_NAMES) * 1000 * 0.9
    more, _ = cost_of(("seeds: [0, 1]", "seeds: [0, 1]\nguidance: [0, 1]"))
    assert more.stored == cost.stored > 0
    assert more.disk > 1.2 * cost.disk


def test_trials_run_at_the_same_time(cost_of: Callable[..., Any], rehearsals: list[Any]) -> None:
    one, _ = cost_of()
    two, _ = cost_of(slots=2)
    assert one.seconds / 2 <= two.seconds < one.seconds
    assert two.memory == pytest.approx(2 * one.memory, rel=0.01)


def test_a_suite_that_cannot_fit_is_an_error(
    cost_of: Callable[..., Any], rehearsals: list[Any]
) -> None:
    with pytest.raises(SpecError, match=r"seed 0.*: stage .* needs about .* GB of memory"):
        cost_of(memory=GIB // 4)
    cost_of(memory=3 * GIB)
    with pytest.raises(SpecError, match=r"^stage .* needs about .* GB of memory, but 3"):
        cost_of(slots=4, memory=3 * GIB)
    # A cluster has memory of its own.
    cost_of(slots=4, memory=GIB // 4, is_local=False)
    with pytest.raises(OutputError, match="the run directory need"):
        cost_of(disks=[(20_000, frozenset({RUN}))])
