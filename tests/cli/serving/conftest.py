"""A finished run of three tiny modalities, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mld.inference.trained_run import TrainedRun, load


@pytest.fixture(scope="session")
def trained_run(finished_run: Path, small_run: Any) -> TrainedRun:
    return load(finished_run, small_run.registry())
