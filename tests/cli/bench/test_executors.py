"""Executors: Ray where it is missing, loses a worker, or works."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mld.bench.executors import RayExecutor
from mld.bench.runner import run_trials
from mld.bench.suite_dir import SuiteDir
from mld.bench.trials import Trial
from mld_core import SpecError


def test_missing_ray_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpecError, match=r"pip install 'mld-toolkit\[ray\]'"):
        RayExecutor(1, {}, threads=1, use_gpu=True)


def test_lost_ray_worker_fails_its_trial_alone(
    suite_dir: SuiteDir, trials: list[Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    class WorkerLost(Exception):
        pass

    def get(reference: str) -> int:
        if reference.endswith(f"{trials[0].key}.yaml"):
            raise WorkerLost("the worker died\nno more is known")
        return 5

    ray = SimpleNamespace(
        is_initialized=lambda: True,
        cluster_resources=dict,
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda spec, *_: str(spec)),
        wait=lambda references, timeout: (references, []),
        get=get,
        exceptions=SimpleNamespace(RayError=WorkerLost),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    run_trials(suite_dir, trials, RayExecutor(2, {}, threads=1, use_gpu=True))
    reason = "Ray has lost the run: the worker died (exit code 130)"
    lost = [suite_dir.failure(trial) == reason for trial in trials]
    assert lost == [True, False, False, False]


@pytest.mark.parametrize("there_is_a_cluster", [False, True])
def test_ray_runs_as_many_trials_as_it_has_cores_for(
    monkeypatch: pytest.MonkeyPatch, there_is_a_cluster: bool
) -> None:
    nodes: list[dict[str, Any]] = []

    def init(num_cpus: int | None = None, **options: bool) -> None:
        if there_is_a_cluster and num_cpus is not None:
            raise ValueError("When connecting to an existing cluster, num_cpus must not be given.")
        machines = [(5.0, True), (3.0, True), (8.0, False), (0.0, True)]
        nodes.extend(
            {"Alive": alive, "Resources": {"CPU": cpus} if cpus else {}}
            for cpus, alive in ([(num_cpus, True)] if num_cpus else machines)
        )

    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=init,
        nodes=lambda: nodes,
        remote=lambda **options: lambda function: options,
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("mld.bench.executors.available_cores", lambda: 4)
    assert RayExecutor(None, {}, threads=2, use_gpu=False).slots == (3 if there_is_a_cluster else 2)
    assert RayExecutor(7, {}, threads=2, use_gpu=False).slots == 7
    assert nodes[0]["Resources"]["CPU"] == (5 if there_is_a_cluster else 4)


@pytest.mark.slow
def test_trials_run_on_a_ray_cluster(
    write_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mld-toolkit[ray]'")
    monkeypatch.setenv("MLD_STORE", str(tmp_path / "store"))
    script = (
        "import ray, sys\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "from mld.app import main\n"
        f"sys.argv = ['mld', 'bench', {str(write_suite())!r}, '--out', {str(tmp_path / 'out')!r},"
        " '--executor', 'ray', '--jobs', '2']\n"
        "main()\n"
    )
    suite = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert suite.returncode == 0, suite.stderr
    assert len(list((tmp_path / "out").glob("trials/*/stages/report.json"))) == 4
