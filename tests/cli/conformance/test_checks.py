"""Each check fails for a plugin that is broken in just that way, and for no other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent.parent / "plugins"
sys.path.insert(0, str(PLUGINS))
import broken_datasets  # noqa: E402
import broken_methods  # noqa: E402
import broken_modalities  # noqa: E402
from mld_tiny import Rows, Tiny, TinyWords  # noqa: E402
from mld_tiny_method import TinyMethod  # noqa: E402

from mld.config.sections import DiffuseSpec, ResidualMLPSpec  # noqa: E402
from mld.conformance import (  # noqa: E402
    CHECKS,
    check_dataset,
    check_method,
    check_modality,
    conformance,
    count_statuses,
)
from mld.conformance.checks import integration, side_effects  # noqa: E402
from mld.conformance.runner import (  # noqa: E402
    CheckRunner,
    dataset_under_test,
    method_under_test,
    modality_under_test,
)
from mld_core import SpecError  # noqa: E402

ISOLATED = {"imports-quickly", "imports-quietly", "works-quietly", "needs-no-network"}
TRAINING = {
    "writes-any-decoded-item",
    "decodes-any-latent",
    "autoencoder-learns",
    "latent-identifies-item",
    "classifier-learns",
    "labels-are-distinguishable",
    "metrics-return-floats",
    "joint-model-generates-any-from-any",
    "learning-lowers-the-loss",
    "samples-follow-given",
}
ALL = "..."
"""A plugin so broken that every check that needs its items fails."""

RAISES = {
    "writes-any-decoded-item",
    "fit-returns-json",
    "works-with-missing-items",
    "joint-model-generates-any-from-any",
    "items-fit-their-modality",
}
"""Checks whose broken plugin raises an exception, which is then the reason."""


pytestmark = pytest.mark.usefixtures("warm_checks")


SMALL_DIFFUSION = DiffuseSpec(network=ResidualMLPSpec(width=32, depth=1), steps=60, batch_size=64)


@pytest.fixture(autouse=True)
def _short_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small joint model; and the plugins that are slow to import sleep for 0.4 s."""
    monkeypatch.setattr(integration, "DIFFUSION", SMALL_DIFFUSION)
    monkeypatch.setattr(side_effects, "MAX_IMPORT_SECONDS", 0.3)
    monkeypatch.setattr(side_effects, "MAX_IMPORTS", 1)


def test_valid_modality_passes() -> None:
    reported: list[str] = []
    results = check_modality(
        Tiny, slow=True, on_result=lambda result: reported.append(result.check)
    )
    assert reported == list(CHECKS["modality"])
    others = {result.check: result.status for result in results if result.status != "passed"}
    # It has trainable weights, and items that are no choice among a few.
    assert others == {"reference-decides-weights": "skipped", "choices-are-cells": "skipped"}
    assert count_statuses(results)["run"] >= 25


test_valid_inline_modality_passes = conformance(TinyWords, width=12, with_=Tiny)


def test_valid_dataset_passes() -> None:
    results = check_dataset(Rows, modalities={"numbers": Tiny})
    assert [result.check for result in results] == list(CHECKS["dataset"])
    assert {r.check: (r.status, r.reason) for r in results if r.status != "passed"} == {}


def test_a_dataset_that_digests_its_files_passes(tmp_path: Path) -> None:
    """A file in a folder within the configured one; nothing is written beside it."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data/rows.txt"
    path.write_text("rows")
    plugin = dataset_under_test(
        broken_datasets.FollowingAFile, {"path": path}, modalities={"numbers": Tiny}
    )
    runner = CheckRunner(plugin)
    assert runner.run("fingerprint-follows-files").status == "passed"
    assert path.read_text() == "rows"
    assert [*tmp_path.rglob("*")] == [tmp_path / "data", path]


def test_valid_method_passes() -> None:
    results = check_method(TinyMethod, {"noise": 0.05})
    assert [result.check for result in results] == list(CHECKS["method"])
    assert {r.check: (r.status, r.reason) for r in results if r.status != "passed"} == {}


def test_every_check_has_a_broken_plugin() -> None:
    assert set(broken_modalities.BROKEN) == set(CHECKS["modality"])
    assert set(broken_datasets.BROKEN) == set(CHECKS["dataset"])
    assert set(broken_methods.BROKEN) == set(CHECKS["method"])
    assert {*CHECKS["modality"], *CHECKS["method"]} >= TRAINING | ISOLATED


@pytest.mark.parametrize("check", CHECKS["modality"])
def test_broken_modality_fails_only_its_check(check: str) -> None:
    runner = CheckRunner(modality_under_test(broken_modalities.BROKEN[check]))
    others = _other_checks("modality", check, broken_modalities.ALSO_FAILS)
    _check_fails_alone(runner, check, others - TRAINING)


@pytest.mark.parametrize(("check", "modality"), broken_modalities.BROKEN_METRICS)
def test_broken_metric_fails_only_its_check(check: str, modality: type[Tiny]) -> None:
    others = {name for name, _ in broken_modalities.BROKEN_METRICS} - {check} - TRAINING
    _check_fails_alone(CheckRunner(modality_under_test(modality)), check, others)


@pytest.mark.parametrize("check", CHECKS["dataset"])
def test_broken_dataset_fails_only_its_check(check: str) -> None:
    plugin = dataset_under_test(broken_datasets.BROKEN[check], modalities={"numbers": Tiny})
    others = _other_checks("dataset", check, broken_datasets.ALSO_FAILS)
    _check_fails_alone(CheckRunner(plugin), check, others)


@pytest.mark.parametrize(
    "check",
    # Processes of their own take seconds, and the kit runs those of all roles alike.
    [pytest.param(c, marks=[pytest.mark.slow] if c in ISOLATED else []) for c in CHECKS["method"]],
)
def test_broken_method_fails_only_its_check(check: str) -> None:
    runner = CheckRunner(method_under_test(broken_methods.BROKEN[check]))
    others = _other_checks("method", check, broken_methods.ALSO_FAILS)
    _check_fails_alone(runner, check, others - TRAINING)


def _other_checks(role: str, check: str, also_fails: dict[str, set[str]]) -> set[str]:
    """The checks that the broken plugin of one check must not fail."""
    also = also_fails.get(check, set())
    return set() if ALL in also else CHECKS[role].keys() - ISOLATED - also - {check}


def _check_fails_alone(runner: CheckRunner, check: str, others: set[str]) -> None:
    result = runner.run(check)
    assert result.status == "failed"
    assert result.reason
    assert "Error: " not in result.reason or check in RAISES, result.reason
    results = [runner.run(name) for name in runner.checks if name in others]
    assert {other.check: other.reason for other in results if other.failed} == {}


def test_pytest_outcome_of_each_status() -> None:
    failing = conformance(broken_modalities.BROKEN["documented"])
    with pytest.raises(pytest.fail.Exception, match="does not say what raw is"):
        failing("documented")
    failing("config-closed")
    with pytest.raises(pytest.skip.Exception, match="the modality is inline"):
        conformance(TinyWords)("missing-file-raises")
    xfailed = conformance(Tiny, xfail={"reads-back": "rounds too much"})
    with pytest.raises(pytest.fail.Exception, match=r"expected to fail \(rounds too much\)"):
        xfailed("reads-back")
    writes_zeros = broken_modalities.BROKEN["reads-back"]
    xfailed = conformance(writes_zeros, xfail={"reads-back": "writes zeros"})
    with pytest.raises(pytest.xfail.Exception, match="writes zeros"):
        xfailed("reads-back")
    marked = {p.id for p in xfailed.pytestmark[0].args[1] if p.marks}
    assert marked == {"joint-model-generates-any-from-any"}


def test_expected_failures_count_apart() -> None:
    writes_zeros = broken_modalities.BROKEN["reads-back"]
    xfail = {"reads-back": "writes zeros", "documented": "not yet"}
    runner = CheckRunner(modality_under_test(writes_zeros), xfail)
    results = [runner.run(name) for name in ("reads-back", "documented", "config-closed")]
    assert [result.failed for result in results] == [False, True, False]
    assert count_statuses(results) == {
        "run": 3,
        "passed": 1,
        "skipped": 0,
        "failed": 0,
        "expected failure": 1,
        "unexpected pass": 1,
    }
    with pytest.raises(SpecError, match="no check 'read-back'; did you mean 'reads-back'"):
        CheckRunner(modality_under_test(Tiny), {"read-back": "misspelt"})


def test_exception_is_reported_with_its_line() -> None:
    class Raising(Tiny):
        """A few numbers; raw is a list of floats."""

        def examples(self, labels, split, rng):
            raise KeyError("seven")

    runner = CheckRunner(modality_under_test(Raising))
    assert "KeyError: 'seven' (test_checks.py:" in runner.run("items-have-one-shape").reason
    later = runner.run("writes-one-file")
    assert later.status == "skipped"
    assert later.reason == "needs 'raw', which failed in an earlier check"


def test_column_config_inside_dataset_config() -> None:
    plugin = dataset_under_test(Rows, {"numbers": {"width": 12}}, {"numbers": Tiny})
    assert plugin.modalities["numbers"].config.width == 12
    with pytest.raises(SpecError, match=r"'figures' is neither a field .* \(columns: numbers\)"):
        dataset_under_test(Rows, {"figures": {"width": 12}}, {"numbers": Tiny})


def test_invalid_config_is_spec_error() -> None:
    message = "invalid config for kind 'tiny': width: must be at least 10, not 3"
    with pytest.raises(SpecError, match=message):
        modality_under_test(Tiny, {"width": 3})
    assert modality_under_test(Tiny).config.latent_dim == 16
    with pytest.raises(SpecError, match="--with NAME=KIND"):
        dataset_under_test("examples")
