"""What the command line's entry point does to its process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import mld
from mld_core.plugins.discovery import installed_version

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def waiting_settings(code: str, **environment: str) -> str:
    """The settings of waiting after some code ran in a new process."""
    others = {name: value for name, value in os.environ.items() if name not in WAITING}
    code = f"import os, sys, contextlib\n{code}\nprint({{n: os.environ.get(n) for n in {WAITING}}})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env={**others, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


def only(**settings: str) -> str:
    return str({name: settings.get(name) for name in WAITING})


MAIN = (
    "sys.argv = ['mld', '--help']\n"
    "from mld.app import main\n"
    "assert 'torch' not in sys.modules\n"
    "with contextlib.suppress(SystemExit): main()"
)


@pytest.mark.parametrize(
    "chosen",
    [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "9"}, {"KMP_BLOCKTIME": "infinite"}],
)
def test_waiting_threads_sleep_soon_unless_the_user_chose(chosen: dict[str, str]) -> None:
    assert waiting_settings(MAIN, **chosen) == only(**chosen or {"GOMP_SPINCOUNT": "10000"})


def test_the_library_leaves_the_environment_alone(warm_python: Callable[..., Any]) -> None:
    code = (
        "import os\nbefore = dict(os.environ)\n"
        "import mld, mld.app, mld.pipeline.run, mld.inference.trained_run\n"
        "assert os.environ == before"
    )
    result = warm_python(code)
    assert result.returncode == 0, result.stderr


def test_version() -> None:
    assert mld.__version__ == installed_version("mld-toolkit")
