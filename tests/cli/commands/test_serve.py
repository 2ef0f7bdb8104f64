"""`mld serve`: what is wrong before a page is shown; tests/cli/serving has the page."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from typing import Any

import pytest
from typer.testing import Result

from mld.commands.serve import _is_loopback
from mld_core import ExitCode


def test_without_gradio_the_error_says_what_to_install(
    mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "gradio" else find(name, *rest)

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", find_spec)
    result = mld("serve", "runs/digits")
    assert result.exit_code == ExitCode.SPEC
    assert result.stderr == "error: mld serve needs Gradio: pip install 'mld-toolkit[serve]'\n"


def test_a_missing_run_is_an_error(mld: Callable[..., Result]) -> None:
    pytest.importorskip("gradio", reason="needs the extra serve")
    result = mld("serve", "runs/digits")
    assert result.exit_code == ExitCode.RUN_DIR
    assert "runs/digits" in result.stderr


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("me", False)],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert _is_loopback(host) is expected
