from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="session", autouse=True)
def _no_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of module fixtures leave the user's weight store alone."""
    with pytest.MonkeyPatch.context() as patch:
        _use_store(patch, tmp_path_factory.mktemp("store"))
        yield


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Draws of torch's global generator are the same whenever a test runs."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _private_store(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test has an empty weight store, and all plugins."""
    _use_store(monkeypatch, tmp_path_factory.mktemp("store"))
    for variable in ("MLD_PLUGINS", "MLD_NO_PLUGINS"):
        monkeypatch.setenv(variable, "")


def _use_store(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr(WeightStore, "in_user_cache", lambda: WeightStore(folder))
    patch.setenv("MLD_STORE", str(folder))
