"""Time of a step of the demo's score network, shared in two ways: python benchmarks/sharing.py.

One process with two threads, and two processes that share every batch, in turns: on an idle
machine, and beside a process that keeps a core busy. Prints a Markdown table of milliseconds a
step, which include a share of the start and end of a training of 200 steps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# As the command `mld` does; OpenMP reads it when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

from mld.config.sections import DiffuseSpec
from mld.config.spec import load_spec
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.processor import processor_name
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.job import TrainConfig, TrainJob
from mld.training.parallel import TrainingPool, shared_training
from mld.training.train import train
from mld_core import Registry
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.schedule import VPSchedule

DEMO = Path(__file__).parent / "digits.yaml"
STEPS, ROUNDS, ROWS = 200, 3, 8000


def demo_job() -> TrainJob:
    """The training of the demo's score network on random latents, shorter."""
    spec = load_spec(DEMO, Registry())
    assert isinstance(spec.diffuse, DiffuseSpec)
    configs: dict[str, Any] = {name: each.config for name, each in spec.modalities.items()}
    layout = LatentLayout({name: config.latent_dim for name, config in configs.items()})
    schedule = VPSchedule(spec.diffuse.beta_min, spec.diffuse.beta_max)
    torch.manual_seed(0)
    network = build_network(spec.diffuse, layout, schedule)
    objective = DenoisingObjective(spec.diffuse, layout, schedule, network)
    present = torch.ones(ROWS, len(configs), dtype=torch.bool)
    rows = {"z": torch.randn(ROWS, layout.joint_dim), "present": present}
    none = {name: tensor[:0] for name, tensor in rows.items()}
    config = TrainConfig(STEPS, spec.diffuse.batch_size, spec.diffuse.learning_rate, 0.999)
    return TrainJob("diffuse", objective, rows, none, config, {})


def milliseconds(training: Callable[[TrainJob, RunContext], object], compute: Compute) -> float:
    """Of a step of the demo's job, trained once."""
    with TemporaryDirectory() as folder:
        context = RunContext(RunDir(Path(folder)), WeightStore(Path(folder)), compute, 0)
        start = time.perf_counter()
        training(demo_job(), context)
        return (time.perf_counter() - start) / STEPS * 1000


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    threads = Compute("cpu", 1, "32-true", 2)
    busy_process = [sys.executable, "-c", "while True: pass"]
    times: dict[tuple[str, str], list[float]] = {}
    with TrainingPool(2) as pool:
        shared = shared_training(demo_job().config.batch_size, threads, pool)
        milliseconds(pool.train_together, shared)
        for _ in range(ROUNDS):
            for machine in ("idle", "one core busy"):
                other = None if machine == "idle" else subprocess.Popen(busy_process)
                try:
                    time_of = times.setdefault(("two processes", machine), [])
                    time_of.append(milliseconds(pool.train_together, shared))
                    with torch_threads(threads):
                        time_of = times.setdefault(("two threads", machine), [])
                        time_of.append(milliseconds(train, threads))
                finally:
                    if other is not None:
                        other.kill()
                        other.wait()
    print(f"{processor_name()}, medians of {ROUNDS} rounds of {STEPS} steps\n")
    print("| ms a step | idle | one core busy |\n|---|---|---|")
    for way in ("two threads", "two processes"):
        cells = [f"{median(times[way, machine]):.1f}" for machine in ("idle", "one core busy")]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
