"""`mld export`: what is wrong before a network is exported; tests/cli/exporting has the files."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from typing import Any

import pytest
from typer.testing import Result

from mld_core import ExitCode


def test_without_its_libraries_the_error_says_what_to_install(
    mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "onnxscript" else find(name, *rest)

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", find_spec)
    for name in ("onnx", "onnxruntime"):
        if find(name) is None:
            pytest.skip("needs the extra export")
    result = mld("export", "runs/digits", "--out", "out")
    assert result.exit_code == ExitCode.SPEC
    message = "mld export --to onnx needs onnxscript: pip install 'mld-toolkit[export]'"
    assert result.stderr == f"error: {message}\n"


def test_other_formats_are_wrong_usage(mld: Callable[..., Result]) -> None:
    assert (
        mld("export", "runs/digits", "--out", "out", "--to", "pickle").exit_code == ExitCode.USAGE
    )
