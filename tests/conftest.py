from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mld.storage.weight_store import WeightStore


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("MLD_TEST_DATA")
    if not folder:
        pytest.skip("MLD_TEST_DATA names no folder of real data")
    return Path(folder)


RunPython = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPython]:
    """Runs code in a new Python process: (code, *words, input="", cwd=".", env=os.environ).

    The process is the fork of one that has imported torch and mld_core, which takes seconds, and
    nothing else; a module that the code imports is imported anew.
    """
    folder = tmp_path_factory.mktemp("warm")
    stdout, stderr = folder / "stdout", folder / "stderr"
    script = Path(__file__).parent / "support" / "warm_python.py"

    def run(
        code: str,
        *words: str,
        input: str = "",
        cwd: Path | str = ".",
        env: Mapping[str, str] = os.environ,
    ) -> subprocess.CompletedProcess[str]:
        request = {
            "code": code,
            "words": words,
            "input": input,
            "cwd": os.path.abspath(cwd),
            "env": dict(env),
        }
        for path in (stdout, stderr):
            path.write_text("")
        server.stdin.write(json.dumps({**request, "outputs": [str(stdout), str(stderr)]}) + "\n")
        server.stdin.flush()
        exit_code = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, exit_code, stdout.read_text(), stderr.read_text())

    command = [sys.executable, "-P", str(script)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        yield run


@pytest.fixture
def warm_checks(warm_python: RunPython, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conformance kit imports and uses plugins in forks, instead of starting Python for each.

    `mld check` is tested without it.
    """
    from mld.conformance.checks import side_effects

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        code = f"__file__ = {command[-1]!r}; exec({Path(command[-1]).read_text()!r})"
        return warm_python(code, input=options["input"], env=options["env"])

    module = SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(side_effects, "subprocess", module)


@pytest.fixture(scope="session")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths of new weight stores."""
    folder = tmp_path_factory.mktemp("stores")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(scope="session", autouse=True)
def _no_user_cache(_stores: Iterator[Path]) -> Iterator[None]:
    """Runs of module fixtures leave the user's weight store alone."""
    with pytest.MonkeyPatch.context() as patch:
        _use_store(patch, next(_stores))
        yield


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Draws of torch's global generator are the same whenever a test runs."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed takes milliseconds for GPUs


@pytest.fixture(autouse=True)
def _private_store(_stores: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an empty weight store, and all plugins."""
    _use_store(monkeypatch, next(_stores))
    for variable in ("MLD_PLUGINS", "MLD_NO_PLUGINS"):
        monkeypatch.setenv(variable, "")


def _use_store(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(WeightStore, "in_user_cache", lambda: WeightStore(folder))
    patch.setenv("MLD_STORE", str(folder))
