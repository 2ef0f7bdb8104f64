"""What a shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


BASH = """
source completion
COMP_WORDS=(mld report runs/)
COMP_CWORD=2
_mld_completion mld
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() {}
_arguments() { print -r -- $1 | tr -d '"()' | sed 's/.*: ://' }
source ./completion
words=(mld report runs/)
CURRENT=3
_mld_completion
"""
FISH = """
source completion
complete --do-complete "mld report runs/"
"""


@pytest.mark.parametrize(
    ("shell", "options", "script"),
    [("bash", ["--norc"], BASH), ("zsh", ["-f"], ZSH), ("fish", ["--no-config"], FISH)],
)
def test_the_script_of_each_shell_completes_there(
    mld: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
    options: list[str],
    script: str,
) -> None:
    """In the shell itself where it is installed; elsewhere the script is only written."""
    for folder in ("runs/one", "runs/two"):
        Path(folder).mkdir(parents=True)
        Path(folder, "spec.yaml").touch()
    variables = {"_MLD_COMPLETE": f"source_{shell}"}
    completion = CliRunner().invoke(app, [], prog_name="mld", env=variables).stdout
    assert f"complete_{shell}" in completion
    if not shutil.which(shell):
        return
    Path("completion").write_text(completion)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    process = subprocess.run([shell, *options, "-c", script], capture_output=True, text=True)
    assert process.stdout.split() == ["runs/one", "runs/two"], process.stderr


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
