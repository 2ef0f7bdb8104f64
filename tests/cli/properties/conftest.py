"""Any input gives a result or a documented exit code with a message, and stays as it is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from typer.testing import Result

from mld.config.spec import load_spec
from mld.pipeline.run import run
from mld.pipeline.stage_costs import StageCost
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld.storage.weight_store import WeightStore
from mld_core import ExitCode, Registry

MAX_PROCESSOR_SECONDS = 60
"""Processor time of one test case, beyond which it counts as endless."""


@pytest.fixture(scope="session")
def registry() -> Registry:
    """All plugins."""
    return Registry()


@pytest.fixture
def outcome(mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line in an empty folder, and checks its exit code and its message."""
    # A dry run looks at the data, but rehearses nothing, which takes seconds.
    costs = [StageCost(name) for name in STAGE_NAMES]
    monkeypatch.setattr("mld.pipeline.estimate.stage_costs", lambda *_: costs)

    def outcome(*words: str | Path) -> Result:
        paths = [word for word in words if isinstance(word, Path) and word.is_file()]
        inputs = {path: path.read_bytes() for path in paths}
        result = mld(*words)
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert result.exit_code in {*ExitCode} - {ExitCode.BUG}, result.output
        assert "Traceback" not in result.output
        assert result.exit_code == ExitCode.DONE or result.stderr.strip()
        assert {path: path.read_bytes() for path in inputs} == inputs
        return result

    return outcome


@pytest.fixture
def small_outcome(
    outcome: Callable[..., Result], small_run: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """The same, where only the small modalities are installed."""
    small = small_run.registry()
    monkeypatch.setattr("mld_core.plugins.registry.Registry", lambda **_: small)
    return outcome


@pytest.fixture(scope="session")
def finished_run(small_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of the small modalities."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(small_run.SPEC)
    registry = small_run.registry()
    overrides = [f"{section}.steps=5" for section in ("autoencode", "diffuse", "evaluate")]
    sizes = ["data.train=40", "data.validation=10", "data.test=10", "generate.num_samples=4"]
    spec = load_spec(folder / "small.yaml", registry, [*overrides, *sizes])
    run(spec, RunDir(folder / "small"), registry, store=WeightStore(folder / "store"))
    return folder / "small"


@pytest.fixture(
    params=[
        1,
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.long]),
    ]
)
def for_any(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Calls a function with so many drawn values, the same ones every time; more in long tests."""

    def endless(*_: Any) -> None:
        pytest.fail(f"takes more than {MAX_PROCESSOR_SECONDS} s of processor time")

    def for_any(examples: int, values: Any, check: Callable[[Any], None]) -> None:
        @settings(
            max_examples=request.param * examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        )
        @given(values)
        def checked(value: Any) -> None:
            signal.setitimer(signal.ITIMER_PROF, MAX_PROCESSOR_SECONDS)
            check(value)

        checked()

    before = signal.signal(signal.SIGPROF, endless)
    yield for_any
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
