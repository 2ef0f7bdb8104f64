"""Each check of the kit sees a plugin that is broken in just that way, and nothing else does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"
sys.path.insert(0, str(PLUGINS))
import broken_datasets  # noqa: E402
import broken_modalities  # noqa: E402
from mld_tiny import Rows, Tiny, TinyWords  # noqa: E402

from mld.conformance import (  # noqa: E402
    CHECKS,
    check_dataset,
    check_modality,
    conformance,
    counted,
)
from mld.conformance.checks import side_effects  # noqa: E402
from mld.conformance.runner import Kit, dataset_subject, modality_subject  # noqa: E402
from mld_core import SpecError  # noqa: E402

PROCESSES = {"imports-quickly", "imports-quietly", "works-quietly", "needs-no-network"}
TRAINING = {
    "writes-whatever-decodes",
    "decodes-any-latent",
    "autoencoder-learns",
    "latent-tells-items-apart",
    "classifier-learns",
    "labels-can-be-told-apart",
    "metrics-give-numbers",
    "joint-model-generates-any-from-any",
}
ALL = "..."
"""A plugin so broken that whatever needs its items fails."""


@pytest.fixture(autouse=True)
def _short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow to import here sleeps for 0.4 s."""
    monkeypatch.setattr(side_effects, "BUDGET", 0.3)
    monkeypatch.setattr(side_effects, "ATTEMPTS", 1)


def test_a_modality_without_fault_passes() -> None:
    told: list[str] = []
    records = check_modality(Tiny, slow=True, tell=lambda record: told.append(record.check))
    assert told == list(CHECKS["modality"])
    assert {r.check: (r.status, r.reason) for r in records if r.status != "passed"} == {}
    assert counted(records)["run"] >= 25


test_an_inline_modality_without_fault_passes = conformance(TinyWords, width=12, with_=Tiny)


def test_a_dataset_without_fault_passes() -> None:
    records = check_dataset(Rows, modalities={"numbers": Tiny})
    assert [record.check for record in records] == list(CHECKS["dataset"])
    assert {r.check: (r.status, r.reason) for r in records if r.status != "passed"} == {}


def test_every_check_has_a_plugin_that_it_is_there_for() -> None:
    assert set(broken_modalities.BROKEN) == set(CHECKS["modality"])
    assert set(broken_datasets.BROKEN) == set(CHECKS["dataset"])
    assert set(CHECKS["modality"]) >= TRAINING | PROCESSES


@pytest.mark.parametrize("check", CHECKS["modality"])
def test_a_broken_modality_fails_its_check_alone(check: str) -> None:
    kit = Kit(modality_subject(broken_modalities.BROKEN[check]))
    others = _others("modality", check, broken_modalities.ALSO)
    _demand_blame(kit, check, others - TRAINING)


@pytest.mark.parametrize("check", CHECKS["dataset"])
def test_a_broken_dataset_fails_its_check_alone(check: str) -> None:
    kit = Kit(dataset_subject(broken_datasets.BROKEN[check], modalities={"numbers": Tiny}))
    _demand_blame(kit, check, _others("dataset", check, broken_datasets.ALSO))


def _others(role: str, check: str, also: dict[str, set[str]]) -> set[str]:
    """The checks that a plugin broken for another's sake must not fail."""
    if ALL in also.get(check, ()):
        return set()
    return CHECKS[role].keys() - PROCESSES - also.get(check, set()) - {check}


def _demand_blame(kit: Kit, check: str, others: set[str]) -> None:
    seen = kit.run(check)
    assert seen.status == "failed"
    assert seen.reason
    assert "Error: " not in seen.reason or check in RAISES, seen.reason
    records = [kit.run(name) for name in kit.checks if name in others]
    assert {record.check: record.reason for record in records if record.failed} == {}


RAISES = {
    "writes-whatever-decodes",
    "fit-gives-json",
    "works-with-missing-items",
    "joint-model-generates-any-from-any",
    "items-fit-their-modality",
}
"""Checks whose broken plugin raises by itself; its words are the reason then."""


def test_pytest_is_told_what_came_of_a_check() -> None:
    failing = conformance(broken_modalities.BROKEN["documented"])
    with pytest.raises(pytest.fail.Exception, match="does not say what raw is"):
        failing("documented")
    failing("config-closed")
    with pytest.raises(pytest.skip.Exception, match="the modality is inline"):
        conformance(TinyWords)("refuses-missing-file")
    known = conformance(Tiny, known_failures={"reads-back": "rounds too much"})
    with pytest.raises(pytest.fail.Exception, match=r"declared to fail \(rounds too much\)"):
        known("reads-back")
    forgetful = broken_modalities.BROKEN["reads-back"]
    known = conformance(forgetful, known_failures={"reads-back": "writes zeros"})
    with pytest.raises(pytest.xfail.Exception, match="writes zeros"):
        known("reads-back")
    marked = {p.id for p in known.pytestmark[0].args[1] if p.marks}
    assert marked == {"joint-model-generates-any-from-any"}


def test_a_known_failure_counts_apart_and_must_be_a_check() -> None:
    forgetful = broken_modalities.BROKEN["reads-back"]
    kit = Kit(modality_subject(forgetful), {"reads-back": "writes zeros", "documented": "not yet"})
    records = [kit.run(name) for name in ("reads-back", "documented", "config-closed")]
    assert [record.failed for record in records] == [False, True, False]
    assert counted(records) == {
        "run": 3,
        "passed": 1,
        "skipped": 0,
        "failed": 0,
        "known failure": 1,
        "unexpected pass": 1,
    }
    with pytest.raises(SpecError, match="no check 'read-back'; did you mean 'reads-back'"):
        Kit(modality_subject(Tiny), {"read-back": "misspelt"})


def test_what_a_plugin_raises_is_told_with_its_place() -> None:
    class Clumsy(Tiny):
        """A few numbers; raw is a list of floats."""

        def examples(self, labels, split, rng):
            raise KeyError("seven")

    kit = Kit(modality_subject(Clumsy))
    assert "KeyError: 'seven' (test_checks.py:" in kit.run("items-of-one-form").reason
    later = kit.run("writes-one-file")
    assert later.status == "skipped"
    assert later.reason == "needs raw, and making that failed in an earlier check"


def test_a_columns_settings_stand_among_those_of_its_dataset() -> None:
    subject = dataset_subject(Rows, {"numbers": {"width": 12}}, {"numbers": Tiny})
    assert subject.modalities["numbers"].config.width == 12
    with pytest.raises(SpecError, match=r"'figures' is no field .* \(columns: numbers\)"):
        dataset_subject(Rows, {"figures": {"width": 12}}, {"numbers": Tiny})


def test_a_config_that_does_not_fit_says_what_to_give() -> None:
    with pytest.raises(SpecError, match=r"'tiny' does not fit: width: must be at least 10, not 3"):
        modality_subject(Tiny, {"width": 3})
    assert modality_subject(Tiny).config.latent_dim == 16
    with pytest.raises(SpecError, match="--with NAME=KIND"):
        dataset_subject("examples")
