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
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

# As the command `mld` does; OpenMP reads it when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from workload import EXAMPLES, Problem

from mld.config.spec import load_spec
from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.processor import processor_name
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.job import TrainJob
from mld.training.parallel import TrainingPool, shared_training
from mld.training.train import train
from mld_core import Registry

DEMO = Path(__file__).parent / "digits.yaml"
STEPS, ROUNDS = 200, 3


def context_in(folder: str, compute: Compute) -> RunContext:
    """The context of a training whose files are in a folder."""
    return RunContext(RunDir(Path(folder)), WeightStore(Path(folder)), compute, 0)


def demo_job(compute: Compute) -> TrainJob:
    """The training of the demo's score network on random latents, shorter."""
    registry = Registry()
    problem = Problem.load(load_spec(DEMO, registry, [EXAMPLES]), registry)
    with TemporaryDirectory() as folder:
        job = problem.joint_job(context_in(folder, compute))
    return replace(job, config=replace(job.config, steps=STEPS))


def milliseconds(
    job: TrainJob, training: Callable[[TrainJob, RunContext], object], compute: Compute
) -> float:
    """Of a step of a job, trained once."""
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        training(job, context_in(folder, compute))
        return (time.perf_counter() - start) / STEPS * 1000


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    threads = Compute("cpu", 1, "32-true", 2)
    busy_process = [sys.executable, "-c", "while True: pass"]
    times: dict[tuple[str, str], list[float]] = {}
    job = demo_job(threads)
    with TrainingPool(2) as pool:
        shared = shared_training(job.config.batch_size, threads, pool)
        milliseconds(job, pool.train_together, shared)
        for _ in range(ROUNDS):
            for machine in ("idle", "one core busy"):
                other = None if machine == "idle" else subprocess.Popen(busy_process)
                try:
                    time_of = times.setdefault(("two processes", machine), [])
                    time_of.append(milliseconds(job, pool.train_together, shared))
                    with torch_threads(threads):
                        time_of = times.setdefault(("two threads", machine), [])
                        time_of.append(milliseconds(job, train, threads))
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
