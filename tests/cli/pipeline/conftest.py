from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mld.config.spec import Spec, load_spec
from mld_core import Registry


@pytest.fixture(scope="session")
def spec_file(small_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    path.write_text(small_run.SPEC)
    return path


@pytest.fixture(scope="session")
def make_spec(spec_file: Path, registry: Registry) -> Callable[..., Spec]:
    """The spec of a small run, with overrides."""
    return lambda *overrides: load_spec(spec_file, registry, overrides)
