"""Exit codes and messages that all commands share."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from mld.commands.common import PluginSelection
from mld_core import plugin_call


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["sample", "."], 6, "is not a run directory"),
        (["sample", ".", "--given", "digit"], 2, "NAME=DATUM"),
        (["report", "."], 6, "stage data is incomplete"),
        (["run", "small.yaml", "--from-stage", "dream"], 2, "no stage 'dream'"),
        (["spec", "init", "x", "-m", "foo"], 2, "-m/--modality must be NAME=KIND, not 'foo'"),
        (["spec", "init", "x", "-m", "a=marks", "-m", "a=marks"], 2, "names 'a' twice"),
        (["spec", "init", "x", "-m", "a=mark"], 3, "did you mean 'marks'?"),
        (["spec", "init", "x", "-m", "a=examples"], 3, "'examples' is a dataset"),
        (
            ["spec", "init", "x", "-m", "joint=marks"],
            3,
            "modalities.joint: must be a name of letters",
        ),
        (["spec", "init", "my x", "-m", "a=marks"], 3, "name: must be a folder name"),
        (["run", "small.yaml", "--set", "diffuse.steps=-1"], 3, "--set diffuse.steps"),
        (["run", "small.yaml", "--out", "small.yaml"], 6, "small.yaml is not a folder"),
        (["fly"], 2, "fly"),
    ],
)
def test_errors_of_commands(
    mld_small: Callable[..., Result], args: list[str], code: int, message: str
) -> None:
    result = mld_small(*args)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_warnings_are_lines_without_code(
    mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*args: Any) -> list[str]:
        warnings.warn("rows are alike", stacklevel=1)
        return []

    monkeypatch.setattr("mld.config.spec.load_spec", warn)
    for _ in range(2):  # also where the same process has told it before
        result = mld_small("spec", "validate", "small.yaml")
        assert "warning: rows are alike\n" in result.stderr
        assert "UserWarning" not in result.stderr


def test_internal_errors_show_a_traceback(
    mld_small: Callable[..., Result], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("mld.pipeline.run.cache_latents", broken)
    result = mld_small("run", "small.yaml", *quick)
    assert result.exit_code == 1
    assert "KeyError: 'ours'" in result.stderr
    assert "please report it" in result.stderr
    assert "KeyError: 'ours'" in Path("runs/small/error.txt").read_text()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError("[x.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to "
                      "allocate 9 bytes.\nC++ frames"), "you tried to allocate 9 bytes."),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
         "CUDA out of memory. Tried to allocate 9 GiB."),
    ],
)  # fmt: skip
def test_too_little_memory(
    mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def large(*args: Any) -> None:
        with plugin_call("kind 'points': the constructor"):
            raise error

    monkeypatch.setattr("mld.config.spec.load_spec", large)
    result = mld_small("run", "small.yaml")
    assert result.exit_code == 5
    assert result.stderr.startswith(f"error: not enough memory ({reason}): choose smaller items")


def test_broken_pipe(mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*args: Any, **kwargs: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("typer.echo", unread)
    result = mld_small("spec", "schema")
    assert result.exit_code == 1
    assert result.stderr == ""


def test_ctrl_c_says_how_to_resume(
    mld_small: Callable[..., Result], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mld.pipeline.run.cache_latents", interrupted)
    result = mld_small("run", "small.yaml", *quick)
    assert result.exit_code == 130
    assert "interrupted; re-run the same command to resume" in result.stderr
    result = mld_small("run", "small.yaml", *quick, "--from-stage", "encode")
    assert "re-run the same command without --from-stage to resume" in result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk: No space left on device"),
    ],
)
def test_a_disk_that_cannot_be_written(
    mld_small: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    message: str,
) -> None:
    def unwritable(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("mld.config.starter.starter_spec", unwritable)
    result = mld_small("spec", "init", "mine", "-m", "a=points")
    assert result.exit_code == 6
    assert result.stderr == f"error: {message}\n"


def test_the_environment_selects_plugins_of_other_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLD_PLUGINS", "text, image")
    monkeypatch.setenv("MLD_NO_PLUGINS", "audio")
    selection = PluginSelection.from_environment(["molecule"])
    assert selection.environment() == {
        "MLD_PLUGINS": "text,image",
        "MLD_NO_PLUGINS": "molecule,audio",
    }
    for variable, value in selection.environment().items():
        monkeypatch.setenv(variable, value)
    again = PluginSelection.from_environment()
    assert (again.allowed, again.blocked) == (["text", "image"], ["molecule", "audio"])
