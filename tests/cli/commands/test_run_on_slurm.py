"""`mld run --slurm`: a run as a job. The cluster is a stand-in."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mld.app import app
from mld.runtime.slurm import Slurm
from mld.storage.run_dir import RunDir

SPEC = """
name: birds
data: {kind: examples, train: 60, validation: 20, test: 20}
modalities: {a: {kind: text, latent_dim: 4, max_bytes: 32}, b: {kind: text, latent_dim: 4}}
autoencode: {steps: 5, batch_size: 32}
diffuse: {steps: STEPS, batch_size: 16, network: {kind: residual-mlp, width: 16, depth: 1}}
generate: {steps: 3, num_samples: 20, num_previews: 0, subsets: [[]]}
evaluate: {steps: 5}
compute: {accelerator: cpu, nodes: 2, devices: 1, threads: 1}
"""


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm_jobs: Path) -> Callable[..., str]:
    """Calls `mld run` with words for a run of so many steps on two nodes; returns its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLD_STORE", str(tmp_path / "store"))

    def call(*words: str, steps: int = 5, exit_code: int = 0) -> str:
        Path("birds.yaml").write_text(SPEC.replace("STEPS", str(steps)))
        result = CliRunner().invoke(app, ["run", "birds.yaml", *words])
        assert result.exit_code == exit_code, result.output
        return result.output

    return call


def test_run_is_submitted_once(submit: Callable[..., str], slurm_jobs: Path) -> None:
    (slurm_jobs.parent / "full").touch()
    log = str(Path.cwd() / "runs" / "birds.slurm" / "output.log")
    submitted = json.loads(submit("--slurm", "partition=gpu", "--json"))
    assert submitted == {"job": "1", "log": log}
    again = submit("--slurm", "partition=gpu")
    assert again == f"job 1 is PENDING already; output: {log}\n"
    assert len(list(slurm_jobs.iterdir())) == 1
    assert not Path("runs/birds").exists()
    (slurm_jobs / "1" / "state").write_text("CANCELLED")
    assert submit("--slurm", "partition=gpu") == f"job 2 submitted; output: {log}\n"


def test_stage_is_not_started_again_on_slurm(submit: Callable[..., str]) -> None:
    words = ["--slurm", "partition=gpu", "--from-stage", "diffuse"]
    assert "start the stage without Slurm" in submit(*words, exit_code=2)


def step(run_dir: RunDir) -> int:
    events = run_dir.read_events() if run_dir.events.is_file() else []
    return max((e["step"] for e in events if e.get("job") == "diffuse"), default=0)


def wait_for(condition: Callable[[], object], log: Path) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.long
def test_two_nodes_train_and_go_on_after_their_time_limit(
    submit: Callable[..., str], slurm_jobs: Path
) -> None:
    submit("--slurm", "time=1", steps=1000)
    run_dir = RunDir(Path("runs/birds"))
    log = Path("runs/birds.slurm/output.log")
    job = Slurm(log.parent, []).find("birds", log)
    assert job is not None
    wait_for(lambda: step(run_dir) > 0, log)
    # What Slurm sends before the limit, to the tasks alone.
    subprocess.run(["scancel", "1", "--signal", "USR2"], check=True)
    wait_for(lambda: job.submitted.done(force_check=True), log)
    assert job.poll() == 0
    assert run_dir.is_complete("report")
    output = log.read_text()
    assert output.count("interrupted; re-run the same command to resume") == 2
    assert output.count("report.html") == 1
    assert (slurm_jobs / "1" / "starts").read_text() == "2"
