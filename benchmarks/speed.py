"""Speed of mld on this machine: python benchmarks/speed.py [--run runs/digits] [--json FILE].

Prints Markdown tables: the matrix peak, rows per second of training, seconds per sample, start-up
of the commands, the stages of a finished run, and other methods side by side. Repeated measurements
take turns, so that other work on the machine slows all alike; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

# As the command `mld` does; OpenMP reads it when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch
from workload import (
    EXAMPLES,
    MATRIX_TYPES,
    Effort,
    Problem,
    Training,
    matrix_rate,
    matrix_types,
    process_seconds,
    ratio,
    seconds_per_latent,
    seconds_per_sample,
    show_progress,
    take_turns,
    type_name,
)

from mld.bench.grid import grid
from mld.bench.suite import load_suite
from mld.config.sections import DiffuseSpec
from mld.config.spec import Spec, load_spec, parse_spec
from mld.pipeline.diffusion_method import DiffusionGenerator, DiffusionMethod
from mld.pipeline.run import run as run_pipeline
from mld.reporting.number_format import format_number
from mld.runtime.compute import resolve, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.processor import available_cores, processor_name
from mld.storage.run_dir import RunDir
from mld.storage.stages import PIPELINE, stage_of_job
from mld.storage.weight_store import WeightStore
from mld.training.job import count_parameters
from mld_core import Registry
from mld_core.diffusion.samplers import SAMPLERS

Rates = Mapping[tuple[str, int], Sequence[float]]
"""Rows, or operations of a matrix product, per second in each round, by name and threads."""
Table = list[dict[str, str | float | None]]
"""Rows with the same columns."""

DEMO = Path(__file__).parent / "digits.yaml"
SUITE = Path(__file__).parent / "suites" / "mnist-svhn.yaml"
PAPER, VAE = "mld-paper", "mvtcae"
"""Methods of the suite that are compared with its method `mld`."""
IMAGE_SIZES = (64, 128)
USUAL_STEPS = {"heun": 10, "euler-maruyama": 250, "repaint": 250, "inpaint": 250}
"""Steps by sampler; any other takes the demo's, and so does the demo's own."""
TINY_RUN = (
    "data={kind: examples, train: 40, validation: 10, test: 10}",
    *("autoencode={steps: 4}", "evaluate={steps: 4}", "diffuse.steps=4"),
    *("generate.num_samples=2", "generate.num_previews=1", "generate.subsets=[[]]"),
)
"""Settings that make a run of the demo short, without changing its networks."""

QUICK = Effort(1, 0.01, 256, 2, 12, 2)


def measure_rates(
    trainings: Sequence[Training], contexts: Sequence[RunContext], effort: Effort
) -> Rates:
    """The rate of each training, and with each number of threads the matrix peaks."""
    measurements: dict[tuple[str, int], Callable[[], float]] = {}
    for context in contexts:
        for dtype in matrix_types(context.compute):
            key = type_name(dtype), context.compute.threads
            measurements[key] = partial(matrix_rate, context.compute, dtype, effort)
    for training in trainings:
        measurements[training.key] = training.measurement(effort)
    return take_turns("training", measurements, effort.rounds)


def machine_table(contexts: Sequence[RunContext], rates: Rates) -> Table:
    """The machine and its matrix peaks."""
    compute = contexts[-1].compute
    properties: dict[str, str | float | None] = {
        "processor": processor_name(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "torch": torch.__version__,
        "device": compute.accelerator,
        "threads": compute.threads,
        "precision": compute.precision,
    }
    for context in contexts:
        for dtype in map(type_name, matrix_types(context.compute)):
            threads = context.compute.threads
            peak = statistics.median(rates[dtype, threads]) / 1e9
            properties[f"matrix peak, {dtype}, {_threads(threads)}: GFLOP/s"] = peak
    return [{"machine": name, "value": value} for name, value in properties.items()]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def training_table(trainings: Sequence[Training], rates: Rates) -> Table:
    """Rows per second of each training, and how much of the matrix peak they use."""
    table: Table = []
    by_name = {training.name: training for training in trainings}
    flops_of = {name: training.flops_per_row() for name, training in by_name.items()}
    for training in trainings:
        compute, config = training.context.compute, training.job.config
        flops, rate = flops_of[training.name], rates[training.key]
        peak = rates[type_name(MATRIX_TYPES[compute.precision]), compute.threads]
        table.append(
            {
                "training": training.name,
                "threads": compute.threads,
                "parameters": count_parameters(training.job.objective),
                "batch": config.batch_size,
                "MFLOP/row": flops / 1e6,
                "rows/s": statistics.median(rate),
                "GFLOP/s": flops * statistics.median(rate) / 1e9,
                "of matrix peak": flops * ratio(rate, peak),
            }
        )
    return table


def sampler_table(problem: Problem, context: RunContext, effort: Effort) -> Table:
    """Time per joint sample of the demo's network, by sampler, guided and not."""
    assert isinstance(problem.spec.diffuse, DiffuseSpec)
    trained = problem.generator(context)
    assert isinstance(trained, DiffusionGenerator)
    generate, layout = problem.spec.generate, problem.latents.layout
    nfe: dict[tuple[str, int, str], float] = {}
    measurements: dict[tuple[str, int, str], Callable[[], float]] = {}
    for sampler in SAMPLERS:
        is_demo = sampler == generate.sampler
        steps = generate.steps if is_demo else USUAL_STEPS.get(sampler, generate.steps)
        for is_guided, guidance in (("no", 0), ("yes", generate.guidance or 1)):
            key = sampler, steps, is_guided
            sampling = generate.with_overrides(sampler=sampler, steps=steps, guidance=guidance)
            method = DiffusionMethod(problem.spec.diffuse, sampling, layout)
            generator = replace(trained, sampling=sampling)
            nfe[key] = method.evaluations_per_sample(())
            measurements[key] = partial(seconds_per_latent, generator, nfe[key], effort)
    seconds = take_turns("sampling", measurements, effort.rounds)
    demo = seconds[generate.sampler, generate.steps, "yes" if generate.guidance else "no"]
    return [
        {
            "sampler": sampler,
            "steps": steps,
            "guided": is_guided,
            "NFE": nfe[sampler, steps, is_guided],
            "ms/sample": 1000 * statistics.median(each),
            "ratio to the demo's": ratio(each, demo),
        }
        for (sampler, steps, is_guided), each in seconds.items()
    ]


def startup_table(run: Path, effort: Effort) -> Table:
    """Wall time and processor time of commands, beside those of `import torch` alone."""
    reference = "import torch"
    mld = [sys.executable, "-c", "from mld.app import main; main()"]
    commands = {
        reference: [sys.executable, "-c", "import torch"],
        "mld --help": [*mld, "--help"],
        "mld spec validate": [*mld, "spec", "validate", str(DEMO.resolve())],
        "mld modalities": [*mld, "modalities"],
        "mld sample RUN -n 4": [*mld, "sample", str(run.resolve()), "-n", "4"],
    }
    with TemporaryDirectory() as folder:
        measurements = {name: partial(process_seconds, c, folder) for name, c in commands.items()}
        seconds = take_turns("start-up of commands", measurements, effort.rounds)
    columns = {
        name: [[each[clock] for each in rounds] for clock in (0, 1)]
        for name, rounds in seconds.items()
    }
    return [
        {
            "command": name,
            "wall, s": statistics.median(wall),
            "wall, ratio": ratio(wall, columns[reference][0]),
            "processor, s": statistics.median(cpu),
            "processor, ratio": ratio(cpu, columns[reference][1]),
        }
        for name, (wall, cpu) in columns.items()
    ]


def make_tiny_run(folder: Path, registry: Registry) -> Path:
    """A run of the demo that is hardly trained."""
    with redirect_stderr(StringIO()):
        spec = load_spec(DEMO, registry, TINY_RUN)
        run_pipeline(spec, RunDir(folder / "run"), registry, store=WeightStore(folder / "store"))
    return folder / "run"


def stage_table(run: Path) -> Table:
    """The time of each stage of a finished run, from its markers, and its reused trainings."""
    run_dir = RunDir(run)
    jobs = [event["job"] for event in run_dir.read_events() if event["event"] == "store"]
    reused = [stage_of_job(job) for job in jobs]
    names = [stage.name for stage in PIPELINE]
    seconds = {name: run_dir.stage_seconds(name) for name in names}
    table: Table = [
        {
            "stage": name,
            "s": seconds[name],
            "share": seconds[name] / sum(seconds.values()),
            "trainings reused": reused.count(name),
        }
        for name in names
    ]
    total = {"s": sum(seconds.values()), "share": 1.0, "trainings reused": len(reused)}
    return [*table, {"stage": "all", **total}]


class Comparison:
    """Methods of the suite mnist-svhn side by side, on example rows.

    Beside mld at the suite's settings stands the paper's network at its own. Beside the VAE, which
    trains encoders and decoders with the rest, stand mld with as many parameters as the whole VAE,
    and the autoencoders that mld trains first.
    """

    MLD, SMALL, AUTOENCODERS = "mld", "mld, as many parameters", "mld, autoencoders"
    REFERENCES: ClassVar = {MLD: MLD, PAPER: MLD, SMALL: SMALL, AUTOENCODERS: SMALL, VAE: SMALL}
    """What each row of the table is compared with."""

    def __init__(self, registry: Registry, context: RunContext) -> None:
        suite = load_suite(SUITE, [EXAMPLES])
        specs = {
            coordinates.method: parse_spec(document, registry, suite.folder)
            for coordinates, document in grid(suite)
        }
        mld = Problem.load(specs["mld"], registry)
        paper, vae = (mld.with_method(specs[name], registry) for name in (PAPER, VAE))
        parameters = count_parameters(vae.method.network())
        small = mld.with_method(_resized(mld, parameters, registry), registry)
        self.context = context
        self.problems = {self.MLD: mld, PAPER: paper, self.SMALL: small, VAE: vae}
        jobs = {name: problem.joint_job(context) for name, problem in self.problems.items()}
        self.trainings = {name: [Training(name, job, context)] for name, job in jobs.items()}
        self.trainings[self.AUTOENCODERS] = [
            Training(f"{self.AUTOENCODERS}: {name}", job, context)
            for name, job in mld.autoencoder_jobs().items()
        ]

    def table(self, rates: Rates, effort: Effort) -> Table:
        """Rows per second, and time per decoded joint sample; both also as times of mld's."""
        nfe = {name: problem.nfe for name, problem in self.problems.items()}
        seconds = take_turns(
            "sampling by other methods",
            {
                name: partial(
                    seconds_per_sample, problem.generator(self.context), problem, nfe[name], effort
                )
                for name, problem in self.problems.items()
            },
            effort.rounds,
        )
        sample_ms = {name: 1000 * statistics.median(each) for name, each in seconds.items()}
        sample_ratio = {
            name: ratio(each, seconds[self.REFERENCES[name]]) for name, each in seconds.items()
        }
        rate = {
            name: _rates_in_turn([rates[each.key] for each in trainings])
            for name, trainings in self.trainings.items()
        }
        return [
            {
                "method": name,
                "parameters": sum(
                    count_parameters(training.job.objective) for training in self.trainings[name]
                ),
                "batch": self.trainings[name][0].job.config.batch_size,
                "rows/s": statistics.median(rate[name]),
                "NFE": nfe.get(name),
                "ms/sample": sample_ms.get(name),
                "compared with": reference,
                "rows/s, ratio": ratio(rate[name], rate[reference]),
                "ms/sample, ratio": sample_ratio.get(name),
            }
            for name, reference in self.REFERENCES.items()
        ]


def _rates_in_turn(rates: Sequence[Sequence[float]]) -> list[float]:
    """Rows per second through networks that are trained one after the other, in each round."""
    return [1 / sum(1 / rate for rate in each) for each in zip(*rates, strict=True)]


def _resized(problem: Problem, parameters: int, registry: Registry) -> Spec:
    """The problem's spec with the narrowest network that has this many parameters."""
    spec = problem.spec

    def with_width(width: int) -> Spec:
        assert isinstance(spec.diffuse, DiffuseSpec)
        network = spec.diffuse.network.model_copy(update={"width": width})
        return spec.model_copy(
            update={"diffuse": spec.diffuse.model_copy(update={"network": network})}
        )

    def count(width: int) -> int:
        return count_parameters(problem.with_method(with_width(width), registry).method.network())

    widths = range(8, 1025, 8)
    return with_width(widths[bisect_left(widths, parameters, key=count)])


def print_table(title: str, table: Table) -> None:
    """Print a table in Markdown; its first column is text."""
    print(f"\n## {title}\n")
    if not table:
        print("Not measured: name a finished run with --run.")
        return
    headers = [*table[0]]
    cells = [[_text(value) for value in row.values()] for row in table]
    for row in (headers, ["---", *["---:"] * (len(headers) - 1)], *cells):
        print(f"| {' | '.join(row)} |")


def _text(value: str | float | None) -> str:
    return value if isinstance(value, str) else format_number(value)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a finished run of digits.yaml, for its stages")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables as JSON")
    parser.add_argument("--quick", action="store_true", help="measure hardly anything, as a test")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        tables = measure(args.run, QUICK if args.quick else Effort(), Path(folder))
    for title, table in tables.items():
        print_table(title, table)
    if args.json:
        args.json.write_text(json.dumps(tables, indent=1) + "\n")


def measure(run: Path | None, effort: Effort, folder: Path) -> dict[str, Table]:
    """All tables by title."""
    registry = Registry()
    stages = stage_table(run) if run else []
    show_progress("reading example data")
    demo = Problem.load(load_spec(DEMO, registry, [EXAMPLES]), registry)
    sizes = (f"px{size}: {{kind: image, latent_dim: 64, size: {size}}}" for size in IMAGE_SIZES)
    overrides = [EXAMPLES, f"modalities={{{', '.join(sizes)}}}", "generate={}"]
    overrides.append(f"autoencode={{batch_size: {effort.image_batch_size}}}")
    images = Problem.load(load_spec(DEMO, registry, overrides), registry)
    compute = replace(resolve(demo.spec.compute), devices=1)
    counts = sorted({1, compute.threads})
    contexts = [
        RunContext(RunDir(folder), WeightStore(folder), replace(compute, threads=threads), seed=0)
        for threads in counts
    ]
    context = contexts[-1]
    trainings = []
    for each in contexts:
        jobs = {"score network": demo.joint_job(each)}
        jobs |= {f"autoencoder {name}": job for name, job in demo.autoencoder_jobs().items()}
        for size, job in zip(IMAGE_SIZES, images.autoencoder_jobs().values(), strict=True):
            jobs[f"image autoencoder, {size} pixels"] = job
        trainings += [Training(name, job, each) for name, job in jobs.items()]
    comparison = Comparison(registry, context)
    compared = [each for group in comparison.trainings.values() for each in group]
    show_progress("training, warm-up")
    rates = measure_rates([*trainings, *compared], contexts, effort)
    with torch_threads(compute):
        samplers = sampler_table(demo, context, effort)
        side_by_side = comparison.table(rates, effort)
    startup = startup_table(run or make_tiny_run(folder, registry), effort)
    return {
        "Machine": machine_table(contexts, rates),
        "Training": training_table(trainings, rates),
        "Sampling": samplers,
        "Start-up": startup,
        "Stages": stages,
        "Side by side": side_by_side,
    }


if __name__ == "__main__":
    main()
