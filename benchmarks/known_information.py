"""Estimates of information that is known: python benchmarks/known_information.py.

For each world and seed one network is trained by the training loop of `mld run` with
`purpose: information`, and the standard measures of `mld information` are estimated on 1,000 fresh
rows and recalibrated on 500 others. Prints a Markdown table with a line for each world and measure,
then whether the aim is reached: every value within 5 % of log 10 of the truth, half-widths of at
most 0.25 nats, and nine of ten 95 % intervals that contain the truth.

Worlds: two normal variables of five dimensions; and two or three variables that are independent
given one of ten equally likely classes, each in rotated dimensions that show the class or are
normal and private.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from mld.config.sections import DiffuseSpec, ResidualMLPSpec, TransformerSpec
from mld.inference.information import standard_measures
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.job import TrainConfig, TrainJob
from mld.training.train import train
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser
from mld_core.information.estimator import Estimate, surprisal

CLASSES = 10
CLASS_STD = 0.2
TOLERANCE = 0.05 * math.log(CLASSES)
MAX_HALF_WIDTH = 0.25
TRAINING_ROWS, HELD_OUT_ROWS, ROWS = 100_000, 500, 1000
NODES = 64
NETWORKS = {
    "residual-mlp": ResidualMLPSpec(width=64, depth=2),
    "transformer": TransformerSpec(width=64, depth=2),
}
SPEC = DiffuseSpec(
    purpose="information",
    network=NETWORKS["residual-mlp"],
    balance=0.0,
    keep="last",
    steps=2500,
    batch_size=512,
    learning_rate=5e-3,
)


@dataclass(frozen=True)
class World:
    """A law of rows whose information is known.

    Args:
        dims: width of each variable, by name.
        draw: rows from a generator; "row joint".
        truths: measures by their names in `standard_measures`, in nats.
    """

    name: str
    dims: Mapping[str, int]
    draw: Callable[[int, Generator], Tensor]
    truths: Mapping[str, float]


def gaussian(nats: float, dim: int = 5) -> World:
    """Two standard normals, `dim` wide each, with this mutual information."""
    rho = math.sqrt(-math.expm1(-2 * nats / dim))

    def draw(rows: int, generator: Generator) -> Float[Tensor, "row joint"]:
        x, noise = torch.randn(2, rows, dim, generator=generator)
        return torch.cat([x, rho * x.flip(1) + math.sqrt(1 - rho**2) * noise], 1)

    measures = ("I(a; b)", "I(a; b), joint form", "total correlation", "dual total correlation")
    return World(f"normal, {nats:g}", {"a": dim, "b": dim}, draw, dict.fromkeys(measures, nats))


def mixture(names: str, private: int) -> World:
    """Variables that are independent given one of ten classes, which each of them determines.

    A variable is a rotation of four dimensions that show the class, with a centre for each and a
    standard deviation of CLASS_STD, and of `private` standard normal ones.
    """
    generator = Generator().manual_seed(0)
    centres, turns = [], []
    for _ in names:
        while True:
            drawn = torch.randn(CLASSES, 4, generator=generator)
            if torch.pdist(drawn).min() > 7 * CLASS_STD:
                break
        centres.append(drawn)
        dim = 4 + private
        turns.append(torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q)

    def draw(rows: int, generator: Generator) -> Float[Tensor, "row joint"]:
        label = torch.randint(CLASSES, (rows,), generator=generator)
        parts = []
        for means, turn in zip(centres, turns, strict=True):
            noise = torch.randn(rows, 4 + private, generator=generator)
            shown = means[label] + CLASS_STD * noise[:, :4]
            parts.append(torch.cat([shown, noise[:, 4:]], 1) @ turn)
        return torch.cat(parts, 1)

    nats = math.log(CLASSES)
    truths = {"total correlation": (len(names) - 1) * nats, "dual total correlation": nats}
    for name in standard_measures(list(names)):
        if name.startswith("I("):
            truths[name] = 0.0 if " | " in name else nats
    dims = dict.fromkeys(names, 4 + private)
    return World(f"classes, {len(names)} variables", dims, draw, truths)


def train_model(world: World, seed: int, spec: DiffuseSpec = SPEC) -> ScoreModel:
    """A small score network, trained on rows of the world."""
    layout, schedule = LatentLayout.of_vectors(dict(world.dims)), VPSchedule()
    compute = Compute("cpu", 1, "32-true", torch.get_num_threads())
    config = TrainConfig(spec.steps, spec.batch_size, spec.learning_rate, spec.ema_decay)
    z = world.draw(TRAINING_ROWS, Generator().manual_seed(3 * seed))
    rows = {"z": z, "present": torch.ones(len(z), len(world.dims), dtype=torch.bool)}
    no_rows = {name: tensor[:0] for name, tensor in rows.items()}
    with TemporaryDirectory() as folder:
        store = WeightStore(Path(folder) / "store")
        context = RunContext(RunDir(Path(folder) / "run"), store, compute, seed)
        network = context.seeded_init(lambda: build_network(spec, layout, schedule), "diffuse")
        objective = DenoisingObjective(spec, layout, schedule, network)
        job = TrainJob("diffuse", objective, rows, no_rows, config, key={})
        trained = train(job, context)
    assert trained.ema is not None
    objective.load_state_dict(trained.ema)
    zeros = torch.zeros(layout.joint_dim)
    identity = Standardiser(zeros, zeros + 1, zeros.bool())
    network = objective.network.eval()
    return ScoreModel(network, layout, schedule, identity, "three-role", torch.device("cpu"))


def estimate(world: World, seed: int, spec: DiffuseSpec = SPEC) -> dict[str, Estimate]:
    """The world's measures, by a network trained with this seed."""
    torch.set_num_threads(1)
    model = train_model(world, seed, spec)
    rows = world.draw(ROWS, Generator().manual_seed(3 * seed + 1))
    held_out = world.draw(HELD_OUT_ROWS, Generator().manual_seed(3 * seed + 2))
    standard = standard_measures(model.layout.names)
    quantities = {name: standard[name] for name in world.truths}
    result = surprisal(
        model,
        model.layout.split(rows),
        [form for each in quantities.values() for form in (*each.averaged, *each.checks)],
        seed,
        shared=False,
        held_out=model.layout.split(held_out),
        nodes=NODES,
    )
    return {
        name: result.estimate(*each.averaged, checks=each.checks)
        for name, each in quantities.items()
    }


WORLDS = {
    world.name: world
    for world in (mixture("ab", 4), mixture("abc", 2), *map(gaussian, (0, 0.5, 1, 3)))
}


def estimate_named(world: str, seed: int, network: str) -> dict[str, Estimate]:
    """As `estimate`, of a world and by a network by their names."""
    return estimate(WORLDS[world], seed, SPEC.model_copy(update={"network": NETWORKS[network]}))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--world", action="append", choices=list(WORLDS), help="only this one")
    parser.add_argument("--network", choices=list(NETWORKS), default="residual-mlp")
    arguments = parser.parse_args()
    seeds, names = range(arguments.seeds), arguments.world or list(WORLDS)
    print("| world | measure | truth | estimates | half-widths | contained |")
    print("|---|---|---|---|---|---|")
    values, covered, widths = [], [], []
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        futures = {
            (name, s): pool.submit(estimate_named, name, s, arguments.network)
            for name in names
            for s in seeds
        }
        for name in names:
            by_seed = [futures[name, seed].result() for seed in seeds]
            for measure, truth in WORLDS[name].truths.items():
                estimates = [result[measure] for result in by_seed]
                contained = [abs(e.value - truth) <= e.half_width for e in estimates]
                line = (
                    " ".join(f"{e.value:.3f}" for e in estimates),
                    " ".join(f"{e.half_width:.3f}" for e in estimates),
                    f"{sum(contained)} of {len(contained)}",
                )
                print(f"| {name} | {measure} | {truth:.3f} | {' | '.join(line)} |", flush=True)
                values += [abs(e.value - truth) <= TOLERANCE for e in estimates]
                widths += [e.half_width <= MAX_HALF_WIDTH for e in estimates]
                covered += contained
    print(f"\nof {len(values)}: {sum(values)} within {TOLERANCE:.3f} nats of the truth, ", end="")
    print(f"{sum(covered)} intervals contain it, {sum(widths)} half-widths at most 0.25 nats")


if __name__ == "__main__":
    main()
