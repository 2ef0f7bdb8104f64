"""`mld check`: its lines, its JSON and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mld.app import app
from mld.conformance import CHECKS
from mld_core import Registry

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def mld(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line, where the tiny plugins are installed."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    points = [EntryPoint(kind, f"mld_{kind}", "mld") for kind in ("tiny", "rows")]
    monkeypatch.setattr("mld_core.plugins.registry.Registry", partial(Registry, points))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_a_modality_is_told_line_by_line(mld: Callable[..., Result]) -> None:
    done = mld("check", "tiny", "--set", "width=12")
    assert done.exit_code == 0
    *lines, summary = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CHECKS["modality"])
    assert lines[-1].split(maxsplit=1)[1].startswith("skipped")
    assert lines[-1].endswith("slow: not asked for")
    run = len(lines) - 1
    assert summary == (
        f"tiny: {run} run: {run} passed, 1 skipped, 0 failed, 0 known failure, 0 unexpected pass"
    )


def test_a_dataset_is_told_as_json_and_a_failure_is_exit_8(mld: Callable[..., Result]) -> None:
    done = mld("check", "rows", "--json", "--xfail", "ids-are-unique=not yet")
    assert done.exit_code == 8
    told = json.loads(done.stdout)
    assert [record["check"] for record in told["checks"]] == list(CHECKS["dataset"])
    assert told["kind"] == "rows"
    assert told["unexpected pass"] == 1
    (unexpected,) = (r for r in told["checks"] if r["status"] != "passed")
    assert unexpected["check"] == "ids-are-unique"
    assert "declared to fail (not yet)" in unexpected["reason"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["tinny"], 3, "did you mean 'tiny'"),
        (["tiny", "--set", "width=2"], 3, "width: must be at least 10, not 2"),
        (["tiny", "--set", "width"], 3, "--set width: an override is written path=value"),
        (["tiny", "--with", "tinny"], 3, "did you mean 'tiny'"),
        (["tiny", "--with", "a=tiny"], 2, "one KIND"),
        (["rows", "--with", "figures=tiny", "--xfail", "x"], 2, "CHECK=REASON"),
        (["rows", "--xfail", "ids-are-unik=so"], 3, "did you mean 'ids-are-unique'"),
    ],
)
def test_what_cannot_be_checked_is_said(
    mld: Callable[..., Result], words: list[str], code: int, complaint: str
) -> None:
    done = mld("check", *words)
    assert done.exit_code == code
    assert complaint in " ".join(done.stderr.replace("│", " ").split())
