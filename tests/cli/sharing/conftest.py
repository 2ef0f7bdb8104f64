"""A stand-in of the hub, and the command line with the small modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, HubServer
from huggingface_hub import constants, hf_api  # noqa: F401 (its log goes where stderr is now)
from typer.testing import CliRunner, Result

from mld.app import app
from mld_core import Registry


@pytest.fixture(scope="session")
def registry(small_run: Any) -> Registry:
    return small_run.registry()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub without repositories, to which the user is logged in; its cache is empty."""
    server = HubServer()
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    url = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in has Git LFS alone
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.stop()


@pytest.fixture
def mld(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command line in an empty folder, with the small modalities installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mld_core.plugins.registry.Registry", lambda **_: registry)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
