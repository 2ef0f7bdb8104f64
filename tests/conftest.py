from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("MLD_TEST_DATA")
    if not folder:
        pytest.skip("MLD_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(autouse=True)
def _private_store(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test reads or fills the user's store, or heeds the user's choice of plugins."""
    monkeypatch.setenv("MLD_STORE", str(tmp_path_factory.mktemp("store")))
    for variable in ("MLD_PLUGINS", "MLD_NO_PLUGINS"):
        monkeypatch.setenv(variable, "")
