"""Estimates of mutual information that is known: python benchmarks/known_information.py.

Data are two standard normals of equal width. For each case one network is trained on 20,000 rows by
the training loop of `mld run`; estimates are of 2,000 fresh rows, in nats with standard errors:
"from x" denoises y with and without x, "joint form" denoises both, and "recalibrated" is what
`mld information` reports, the mean of all forms recalibrated on 500 held-out rows.
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from mld.config.sections import DiffuseSpec, ResidualMLPSpec
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
from mld_core.information.estimator import surprisal
from mld_core.information.measures import joint_mutual_information, mutual_information

CASES = ((1, 0.0), (1, 1.0), (1, 3.0), (5, 0.0), (5, 1.0), (5, 3.0), (20, 0.0))
"""Dimensions of x and of y, and the mutual information. The last measures the bias at zero."""
SPEC = DiffuseSpec(
    network=ResidualMLPSpec(width=128, depth=3),
    steps=2000,
    batch_size=512,
    learning_rate=3e-3,
    ema_decay=0.999,
)


def draw_rows(rows: int, dim: int, nats: float) -> Float[Tensor, "row joint"]:
    """Rows of two standard normals, `dim` wide each, with this mutual information."""
    rho = math.sqrt(-math.expm1(-2 * nats / dim))
    x, noise = torch.randn(2, rows, dim)
    return torch.cat([x, rho * x.flip(1) + math.sqrt(1 - rho**2) * noise], 1)


def train_model(z: Float[Tensor, "row joint"], dim: int) -> ScoreModel:
    """A small score network, trained on rows of x and y."""
    layout, schedule = LatentLayout({"x": dim, "y": dim}), VPSchedule()
    compute = Compute("cpu", 1, "32-true", torch.get_num_threads())
    config = TrainConfig(SPEC.steps, SPEC.batch_size, SPEC.learning_rate, SPEC.ema_decay)
    rows = {"z": z, "present": torch.ones(len(z), 2, dtype=torch.bool)}
    no_rows = {name: tensor[:0] for name, tensor in rows.items()}
    with TemporaryDirectory() as folder:
        store = WeightStore(Path(folder) / "store")
        context = RunContext(RunDir(Path(folder) / "run"), store, compute, seed=0)
        network = context.seeded_init(lambda: build_network(SPEC, layout, schedule), "diffuse")
        objective = DenoisingObjective(SPEC, layout, schedule, network)
        job = TrainJob("diffuse", objective, rows, no_rows, config, key={})
        trained = train(job, context)
    assert trained.ema is not None
    objective.load_state_dict(trained.ema)
    zeros = torch.zeros(layout.joint_dim)
    identity = Standardiser(zeros, zeros + 1, zeros.bool())
    network = objective.network.eval()
    return ScoreModel(network, layout, schedule, identity, "three-role", torch.device("cpu"))


def main() -> None:
    """Measure, and print a Markdown table."""
    x, y = mutual_information("x", "y"), mutual_information("y", "x")
    joint = joint_mutual_information("x", "y")
    print("| dimensions | truth | from x | joint form | recalibrated |\n|---|---|---|---|---|")
    for dim, nats in CASES:
        torch.manual_seed(0)
        model = train_model(draw_rows(20_000, dim, nats), dim)
        rows, held_out = (model.layout.split(draw_rows(n, dim, nats)) for n in (2000, 500))
        plain = surprisal(model, rows, [x, joint], 0, shared=False)
        recalibrated = surprisal(model, rows, [x, y, joint], 0, shared=False, held_out=held_out)
        estimates = [plain.estimate(x), plain.estimate(joint), recalibrated.estimate(x, y, joint)]
        cells = " | ".join(
            f"{estimate.value:.3f} ± {estimate.standard_error:.3f}" for estimate in estimates
        )
        print(f"| {dim} | {nats:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
