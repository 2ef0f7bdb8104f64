"""A rehearsal trains what the run will train, whatever its few rows have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mld.config.spec import Spec
from mld.pipeline import rehearsal
from mld.pipeline.estimate import RUN, STORE, TEMPORARY, Room, Shared, estimate
from mld.storage.run_dir import RunDir
from mld.storage.stages import stage_of_job
from mld.storage.weight_store import WeightStore
from mld_core import Registry

SPLITS = ("train", "test")
TEST = [("ab 0", "test", 2), ("ab 1", "test", 2)]
ROOM = Room(None, None, [(10**15, frozenset({RUN, STORE, TEMPORARY}))])


@pytest.fixture
def rehearsed(tmp_path: Path, registry: Registry) -> Callable[..., tuple[set[str], set[str]]]:
    """The judges that a run trains by its plan, and those that its rehearsal has trained."""

    def judges_of(jobs: Iterable[str]) -> set[str]:
        return {name for name in jobs if stage_of_job(name) == "evaluate"}

    def judges(spec: Spec, shared: Shared | None = None) -> tuple[set[str], set[str]]:
        shared = shared or Shared()
        run_dir, store = RunDir(tmp_path / "run"), WeightStore(tmp_path / "store")
        estimated = estimate(spec, registry, run_dir, store, room=ROOM, shared=shared)
        assert estimated.stages
        *_, last = shared.rehearsals.values()
        planned = (job.name for job in estimated.plan.jobs)
        return judges_of(planned), judges_of(last.trainings)

    return judges


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("rows", "judge", "few_rows", "expected"),
    [
        pytest.param(
            [(f"ab {label}", split, 2) for label in range(21) for split in SPLITS],
            "auto",
            16,
            {"classify/a", "classify/b", "match"},
            id="more rare classes than few rows",
        ),
        pytest.param(
            [(f"ab {label}", split, 50) for label in range(21) for split in SPLITS],
            "auto",
            24,
            {"classify/a", "classify/b"},
            id="classes that are rare in few rows alone",
        ),
        pytest.param(
            [("a 0", "train", 3), ("ab", "train", 9), *TEST],
            "auto",
            16,
            {"classify/a", "match"},
            id="a modality without labels",
        ),
        pytest.param(
            [("a 0", "train", 5), ("b 1", "train", 5), ("ab 1", "train", 1), *TEST],
            "both",
            16,
            {"classify/a", "classify/b"},
            id="too few pairs",
        ),
    ],
)
def test_judges_are_those_of_all_rows(
    rows: list[tuple[str, str, int]],
    judge: str,
    few_rows: int,
    expected: set[str],
    spec_of: Callable[..., Spec],
    rehearsed: Callable[..., tuple[set[str], set[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in ("MIN_MORE_ROWS", "MORE_ROWS"):
        monkeypatch.setattr(rehearsal, limit, few_rows)
    assert rehearsed(spec_of(rows, f"evaluate.judge={judge}")) == (expected, expected)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_runs_whose_cells_differ_share_a_rehearsal_if_they_train_the_same(
    spec_of: Callable[..., Spec], rehearsed: Callable[..., tuple[set[str], set[str]]]
) -> None:
    shared = Shared()
    rows = [("a 0", "train", 9), ("ab 1", "train", 9), ("b", "train", 9), *TEST]
    # All of class 1 and none of class 0.
    missing = "data.missing={mechanism: by-label, rate: {b: 0.5}}"
    without_labels = {"classify/a"}
    assert rehearsed(spec_of(rows, missing), shared) == (without_labels, without_labels)
    complete = {"classify/a", "classify/b"}
    assert rehearsed(spec_of(rows), shared) == (complete, complete)
    assert rehearsed(spec_of(rows, "seed=3"), shared) == (complete, complete)
    assert len(shared.rehearsals) == 2


def test_costs_are_unknown_if_a_planned_network_has_nothing_to_train(
    spec_of: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules[registry.method("relay").__module__]
    monkeypatch.setattr(
        module.RelayModel, "fit", lambda self, *_: self.requires_grad_(False), raising=False
    )
    relay = "diffuse={method: relay, steps: 2, batch_size: 4}"
    splits = ("train", "validation", "test")
    rows = [(f"ab {label}", split, 2) for split in splits for label in (0, 1)]
    spec = spec_of(rows, relay)
    run_dir, store = RunDir(tmp_path / "run"), WeightStore(tmp_path / "store")
    with pytest.warns(UserWarning, match="costs of the run are unknown: .* not trained diffuse"):
        assert not estimate(spec, registry, run_dir, store, room=ROOM).stages
