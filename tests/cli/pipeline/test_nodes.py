"""A run on two nodes, which torchrun starts on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore

SPEC = """
name: nodes
data: {kind: manifest, path: rows.csv}
modalities:
  word: {kind: text, latent_dim: 4}
  size: {kind: number}
autoencode: {steps: 40, batch_size: 32}
diffuse:
  network: {kind: residual-mlp, width: 32, depth: 2, dropout: 0.1}
  steps: 600
  batch_size: 64
  keep: last
generate: {num_samples: 20, num_previews: 1, steps: 4}
compute: {accelerator: cpu, threads: 1, precision: 32-true}
"""
SECONDS = 300.0
"""How long a run may take on a busy machine."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = ("one", "three", "seventeen")
    rows = [f"{words[number % 3]},{number % 3 + number / 1000}" for number in range(300)]
    (tmp_path / "rows.csv").write_text("\n".join(["word,size", *rows]))
    (tmp_path / "nodes.yaml").write_text(SPEC)
    return tmp_path


@contextmanager
def two_nodes(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The run on two nodes; all their processes are killed in the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"--master_addr=127.0.0.1 --master_port={free.getsockname()[1]}".split()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", *address]
    settings = ["--out", str(folder / "nodes"), "--set", "compute.nodes=2"]
    words = ["mld", "run", "nodes.yaml", *settings, "--set", "compute.devices=1"]
    nodes = [
        subprocess.Popen(
            [*launcher, f"--node_rank={node}", "-m", *words],
            cwd=folder,
            env={**os.environ, "MLD_STORE": str(folder / "store")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    try:
        yield nodes
    finally:
        for node in nodes:
            kill(node)


def kill(node: subprocess.Popen[str]) -> None:
    """Kill a torchrun, and before it the processes that it would otherwise leave behind."""
    for process in processes_of(node):
        process.kill()
    node.kill()
    node.communicate()


def processes_of(node: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(node.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def wait_for(condition: Callable[[], bool], nodes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert all(node.poll() is None for node in nodes), nodes[0].communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def diffuse_step(run_dir: RunDir) -> int:
    events = run_dir.read_events() if run_dir.events.is_file() else []
    return max((e["step"] for e in events if e.get("job") == "diffuse"), default=0)


@pytest.mark.slow
@pytest.mark.long
def test_two_nodes_train_as_two_devices_of_one(folder: Path) -> None:
    run_dir = RunDir(folder / "nodes")
    with two_nodes(folder) as nodes:
        wait_for(lambda: diffuse_step(run_dir) > 0, nodes)
        # The stop of one node is the stop of all.
        processes_of(nodes[1])[0].send_signal(signal.SIGTERM)
        errors = [node.communicate(timeout=SECONDS)[1] for node in nodes]
    assert all("interrupted; re-run the same command to resume" in error for error in errors)
    saved = run_dir.read_tensors_and_metadata(run_dir.checkpoint("diffuse"))
    stopped_at = diffuse_step(run_dir)
    with two_nodes(folder) as nodes:
        wait_for(lambda: diffuse_step(run_dir) > stopped_at, nodes)
    assert run_dir.read_tensors_and_metadata(run_dir.checkpoint("diffuse"))[1] == saved[1]
    with two_nodes(folder) as nodes:
        outputs = [node.communicate(timeout=SECONDS) for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], outputs
    assert outputs[0][0].endswith("report.html\n")
    assert outputs[1] == ("", "")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one_node = {
            "overrides": ["compute.devices=2"],
            "store": WeightStore(folder / "other-store"),
        }
        run(folder / "nodes.yaml", folder / "devices", **one_node)
    on_one = RunDir(folder / "devices")
    for path in (run_dir.autoencoder("word"), run_dir.network, run_dir.ema):
        weights = run_dir.read_tensors(path)
        expected = on_one.read_tensors(on_one.path / path.relative_to(run_dir.path))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights), path
