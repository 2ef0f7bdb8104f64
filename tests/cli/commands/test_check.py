"""`mld check`: its lines, its JSON and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import Result

from mld.conformance import CHECKS
from mld_core import Registry

PLUGINS = Path(__file__).parent.parent / "plugins"


@pytest.fixture
def mld_tiny(mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line, with only the tiny plugins installed."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    modules = {"tiny": "mld_tiny", "rows": "mld_rows", "tiny-method": "mld_tiny_method"}
    points = [EntryPoint(kind, module, "mld") for kind, module in modules.items()]
    monkeypatch.setattr("mld_core.plugins.registry.Registry", partial(Registry, points))
    return mld


def test_modality_prints_one_line_per_check(mld_tiny: Callable[..., Result]) -> None:
    result = mld_tiny("check", "tiny", "--set", "width=12")
    assert result.exit_code == 0
    *lines, summary = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CHECKS["modality"])
    assert lines[-1].split(maxsplit=1)[1].startswith("skipped")
    assert lines[-1].endswith("slow: not requested")
    run = len(lines) - 3  # the autoencoder refers to no weights, and items are not chosen
    assert summary == (
        f"tiny: {run} run: {run} passed, 3 skipped, 0 failed, 0 expected failure, 0 unexpected pass"
    )


@pytest.mark.usefixtures("warm_checks")
def test_dataset_json_and_exit_code_8(mld_tiny: Callable[..., Result]) -> None:
    result = mld_tiny("check", "rows", "--json", "--xfail", "ids-are-unique=not yet")
    assert result.exit_code == 8
    report = json.loads(result.stdout)
    assert [record["check"] for record in report["checks"]] == list(CHECKS["dataset"])
    assert report["kind"] == "rows"
    assert report["unexpected pass"] == 1
    (unexpected,) = (r for r in report["checks"] if r["status"] != "passed")
    assert unexpected["check"] == "ids-are-unique"
    assert "expected to fail (not yet)" in unexpected["reason"]


def test_method_json(mld_tiny: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: CHECKS["method"][name] for name in ("documented", "models-are-fresh")}
    monkeypatch.setitem(CHECKS, "method", few)
    result = mld_tiny("check", "tiny-method", "--set", "noise=0.2", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [record["check"] for record in report["checks"]] == list(few)
    assert report["passed"] == 2


def test_list_of_checks(mld_tiny: Callable[..., Result]) -> None:
    lines = mld_tiny("check", "--list").stdout.splitlines()
    names = list(dict.fromkeys(name for checks in CHECKS.values() for name in checks))
    assert [line.split()[1] for line in lines if line.startswith("| `")] == [
        f"`{name}`" for name in names
    ]
    checks = json.loads(mld_tiny("check", "--list", "--json").stdout)
    assert [check["name"] for check in checks] == names
    assert [check["name"] for check in checks if check["slow"]] == [
        "joint-model-generates-any-from-any"
    ]
    assert all(check["description"] and check["roles"] for check in checks)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give the KIND to check, or --list"),
        (["tinny"], 3, "did you mean 'tiny'"),
        (["tiny", "--set", "width=2"], 3, "width: must be at least 10, not 2"),
        (["tiny", "--set", "width"], 3, "--set width: an override is written path=value"),
        (["tiny", "--with", "tinny"], 3, "did you mean 'tiny'"),
        (["tiny", "--with", "a=tiny"], 2, "one KIND"),
        (["rows", "--with", "figures=tiny", "--xfail", "x"], 2, "CHECK=REASON"),
        (["tiny-method", "--with", "tiny"], 2, "a method is checked on modalities of the kit"),
        (["tiny-method", "--set", "noise=-1"], 3, "noise: must be at least 0, not -1"),
        (["rows", "--xfail", "ids-are-unik=so"], 3, "did you mean 'ids-are-unique'"),
    ],
)
def test_invalid_requests(
    mld_tiny: Callable[..., Result], words: list[str], code: int, message: str
) -> None:
    result = mld_tiny("check", *words)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
