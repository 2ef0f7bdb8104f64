"""`mld bench SUITE`, in this process and as a process that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from PIL import Image
from typer.testing import CliRunner

from mld.app import app
from mld.bench.suite import load_suite
from mld.bench.suite_dir import CONTENT, SuiteDir
from mld.bench.trials import Trial, make_trials
from mld.pipeline.stage_costs import StageCost
from mld.storage.outputs import mark
from mld.storage.stages import STAGE_NAMES
from mld_core import Registry


@pytest.fixture(autouse=True)
def no_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run looks at the data, but rehearses nothing, which takes seconds."""
    costs = [StageCost(name, seconds=1.0, memory=10**6) for name in STAGE_NAMES]
    monkeypatch.setattr("mld.pipeline.estimate.stage_costs", lambda *_: costs)


def test_dry_run_lists_trials_by_shard(write_suite: Callable[..., Path]) -> None:
    path = str(write_suite())
    keys = {}
    for shard in ("", "1/2", "2/2"):
        result = CliRunner().invoke(app, ["bench", path, "--dry-run", "--shard", shard])
        assert result.exit_code == 0, result.output
        keys[shard] = {line.split()[0] for line in result.stdout.splitlines()[:-1]}
    assert len(keys[""]) == 4
    assert keys["1/2"] | keys["2/2"] == keys[""]
    assert not keys["1/2"] & keys["2/2"]
    same = CliRunner().invoke(app, ["bench", path, "--dry-run", "--shard", "01/02"])
    assert {line.split()[0] for line in same.stdout.splitlines()[:-1]} == keys["1/2"]
    invalid = CliRunner().invoke(app, ["bench", path, "--shard", "3/2"])
    assert invalid.exit_code == 2
    assert CliRunner().invoke(app, ["bench", "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("visible", "accelerator", "slots"),
    [
        ("0,1", "auto", 2),
        ("0,-1,1", "auto", 1),
        ("-1", "auto", 4),
        ("", "auto", 4),
        ("0", "cpu", 4),
    ],
)
def test_each_parallel_run_has_a_gpu_of_its_own(
    write_suite: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str,
    accelerator: str,
    slots: int,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("mld.runtime.processor.available_cores", lambda: 4)
    path = write_suite(more=f"set: {{compute.accelerator: {accelerator}}}")
    args = ["bench", str(path), "--out", str(tmp_path / "out"), "--jobs", "4", "--dry-run"]
    result = CliRunner().invoke(app, args)
    assert f", {slots} at once: " in result.stdout


@pytest.mark.parametrize(
    ("threads", "jobs", "code", "message"),
    [
        (1, [], 0, ", 5 at once: "),
        (2, [], 0, ", 2 at once: "),
        (2, ["--jobs", "1"], 0, ", 1 at once: "),
        (5, ["--jobs", "1"], 0, ", 1 at once: "),
        (2, ["--jobs", "3"], 2, "needs 6 cores, 2 a run, but 5 are available"),
        (6, [], 3, "threads: 6: only 5 cores are available"),
    ],
)
def test_runs_have_no_more_threads_than_cores(
    write_suite: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    jobs: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("mld.runtime.processor.available_cores", lambda: 5)
    path = write_suite(more=f"set: {{compute.accelerator: cpu}}\nthreads: {threads}")
    args = ["bench", str(path), "--out", str(tmp_path / "out"), "--dry-run", *jobs]
    result = CliRunner().invoke(app, args, env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    assert message in result.output


def test_earlier_seeds_stay_in_the_leaderboard(
    write_suite: Callable[..., Path],
    finish: Callable[..., None],
    coherence_of: Callable[[Trial], float],
    tmp_path: Path,
) -> None:
    path, suite_dir = write_suite(), SuiteDir(tmp_path / "out")
    args = ["bench", str(path), "--out", str(suite_dir.path)]
    for seed in ("0", "1"):
        for trial in make_trials(load_suite(path, seeds=[int(seed)]), Registry()):
            finish(suite_dir, trial.key, coherence_of(trial))
        result = CliRunner().invoke(app, [*args, "--seed", seed])
        assert result.exit_code == 0, result.output
        assert "started" not in result.stderr
    assert suite_dir.seeds() == [1, 0]
    assert len(suite_dir.results.read_text().splitlines()) == 5
    listed = CliRunner().invoke(app, [*args, "--seed", "2", "--dry-run"])
    assert "2 trials: 0 done, 0 failed, 2 open" in listed.stdout


def test_dry_run_counts_shared_runs_once(
    write_suite: Callable[..., Path], finish: Callable[..., None], tmp_path: Path
) -> None:
    path = write_suite(("{diffuse.roles: paper, generate.guidance: 0}", "{}"))
    for trial in make_trials(load_suite(path), Registry()):
        finish(SuiteDir(tmp_path / "out"), trial.key, 0.8)
    args = ["bench", str(path), "--out", str(tmp_path / "out"), "--dry-run"]
    assert "2 trials: 2 done, 0 failed, 0 open" in CliRunner().invoke(app, args).stdout


def command(path: Path, out: Path) -> list[str]:
    mld = [sys.executable, "-c", "from mld.app import main; main()"]
    return [*mld, "bench", str(path), "--out", str(out)]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "MLD_STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.long
def test_killed_suite_resumes(write_suite: Callable[..., Path], tmp_path: Path) -> None:
    path, out = write_suite(), tmp_path / "out"
    env = environment(tmp_path)
    suite = subprocess.Popen(command(path, out), env=env, stderr=subprocess.DEVNULL)
    while not list(out.glob("trials/*/stages/autoencode.json")):
        assert suite.poll() is None
        time.sleep(0.05)
    suite.send_signal(signal.SIGKILL)
    suite.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/stages/report.json")}
    again = subprocess.run(command(path, out), env=env, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert len(list(out.glob("trials/*/stages/report.json"))) == 4
    assert all(path.stat().st_mtime_ns == modified for path, modified in done.items())
    assert len((out / "leaderboard.csv").read_text().splitlines()) == 5
    third = subprocess.run(command(path, out), env=env, capture_output=True, text=True)
    assert "started" not in third.stderr


@pytest.mark.slow
def test_failed_trials_leave_others_alone(
    write_suite: Callable[..., Path], base_text: str, tmp_path: Path
) -> None:
    rows = [f"{split},{n}.png,word {n}" for split in ("train", "validation", "test") for n in "123"]
    for n in "123":
        Image.new("L", (16, 16), int(n)).save(tmp_path / f"{n}.png")
    manifest = "\n".join(["split,a,b", *rows, ""])
    (tmp_path / "torn.png").write_bytes((tmp_path / "1.png").read_bytes()[:-40])
    images = {"good": "1.png", "torn": "torn.png"}
    for name, image in images.items():
        (tmp_path / f"{name}.csv").write_text(manifest.replace("test,1.png", f"test,{image}"))
    base = (
        (
            "{kind: examples, train: 60, validation: 20, test: 20}",
            f"{{kind: manifest, path: {tmp_path}/good.csv}}",
        ),
        (
            "a: {kind: text, latent_dim: 4, max_bytes: 32}",
            "a: {kind: image, latent_dim: 4, size: 16, channels: 1}",
        ),
    )
    methods = [f"{name}: {{data.path: {tmp_path}/{name}.csv}}" for name in [*images, "gone"]]
    methods = ["nope: {diffuse: {method: nope}}", *methods]
    path = write_suite(
        ("[[a, b]]", "[[a, b], [a, d]]"),
        base=base,
        methods=f"\n{indent(chr(10).join(methods), '  ')}",
    )
    suite = subprocess.run(
        command(path, tmp_path / "out"), env=environment(tmp_path), capture_output=True, text=True
    )
    assert suite.returncode == 8
    for line in (
        "done     a+b, good, seed 0",
        "failed: a+b, nope, seed 0: suite.yaml:6: diffuse.method: no plugin of kind 'nope'",
        "failed: a+b, torn, seed 0: 1 item cannot be used (test 1)",
        "failed: a+b, gone, seed 0: gone.csv: cannot be read",
        "failed: a+d, nope, seed 0 and 3 more: suite.yaml:4: modalities[1][1]: no modality 'd'",
    ):
        assert line in suite.stderr.replace(f"{tmp_path}/", "")
    assert len((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()) == 2


@pytest.mark.slow
def test_suite_on_slurm_goes_on_after_its_process_was_killed(
    write_suite: Callable[..., Path], tmp_path: Path, slurm_jobs: Path
) -> None:
    """One job at a time; the one that runs is neither lost nor started twice."""
    words = [*command(write_suite(("[0, 1]", "[0]")), tmp_path / "out"), "--executor", "slurm"]
    words += ["--jobs", "1", "--slurm", "partition=short"]
    env = environment(tmp_path)
    suite = subprocess.Popen(words, env=env, stderr=subprocess.DEVNULL)
    while not (slurm_jobs / "1" / "group").exists():
        assert suite.poll() is None
        time.sleep(0.05)
    suite.send_signal(signal.SIGKILL)
    suite.wait()
    again = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "goes on  a+b, mld, seed 0" in again.stderr
    assert [path.name for path in sorted(slurm_jobs.iterdir())] == ["1", "2"]
    assert all((job / "state").read_text() == "COMPLETED" for job in slurm_jobs.iterdir())
    assert "#SBATCH --partition=short" in (slurm_jobs / "2" / "script").read_text()
    assert len((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.long
def test_suite_runs_on_the_local_executor_of_submitit(
    write_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mld.runtime.slurm.CLUSTER", "local")
    mark(tmp_path / "out", CONTENT)  # which this executor's folder would otherwise precede
    path = write_suite(methods=" {mld: {}}\nseeds: [0]")
    args = ["bench", str(path), "--out", str(tmp_path / "out"), "--executor", "slurm"]
    result = CliRunner().invoke(app, args, env={"MLD_STORE": str(tmp_path / "store")})
    assert result.exit_code == 0, result.output
    assert "done     a+b, mld, seed 0" in result.stderr


def test_options_of_slurm_need_slurm(write_suite: Callable[..., Path]) -> None:
    args = ["bench", str(write_suite()), "--dry-run", "--slurm", "partition=short"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 2
    assert "--slurm needs --executor slurm" in result.output
