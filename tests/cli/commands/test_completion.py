"""What a shell completes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mld.app import app
from mld.commands.completion import complete_kind, complete_run, complete_sampler, complete_stage


def completed(line: str) -> list[str]:
    """The words that bash offers for the last word of a line."""
    words = line.split(" ")
    variables = {
        "_MLD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return CliRunner().invoke(app, [], prog_name="mld", env=variables).stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mld run a.yaml --from-stage e", ["encode", "evaluate"]),
        ("mld sample runs/a --sampler dd", ["ddim"]),
        ("mld impute runs/a rows.csv --sampler he", ["heun"]),
        ("mld describe mol", ["molecule"]),
        ("mld check im", ["image"]),
        ("mld report runs/", ["runs/one", "runs/suites/"]),
        ("mld score o", ["other/"]),
    ],
)
def test_a_shell_completes(mld: Callable[..., Result], line: str, words: list[str]) -> None:
    for folder in ("runs/one", "runs/suites", "other", ".hidden"):
        Path(folder).mkdir(parents=True)
    Path("runs/one/spec.yaml").touch()
    Path("runs/file").touch()
    assert completed(line) == words


@pytest.mark.usefixtures("mld")
def test_completions() -> None:
    assert complete_kind("a=imag") == ["a=image"]
    assert {"image", "manifest", "gaussian"} <= {*complete_kind("")}
    assert complete_stage("")[0] == "data"
    assert "dpm-solver++" in complete_sampler("")
    assert complete_run("") == []
    Path("runs/one").mkdir(parents=True)
    Path("runs/one/spec.yaml").touch()
    assert complete_run("") == ["runs/", "runs/one"]
