"""What a short training says of information that is known: python benchmarks/known_information.py.

Two standard normals of equal width; one network for each case, from 20,000 rows, as the diffusion
stage trains. Estimates on 2,000 fresh rows, in nats with their standard errors: from x, the joint
form, and as `mld information` tells it: all forms together, recalibrated on 500 held-out rows.
"""

from __future__ import annotations

import math
from itertools import chain

import torch

from mld_core.diffusion.ema import EMA
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.multi_time import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.diffusion.networks import ResidualMLP
from mld_core.diffusion.roles import draw_three_roles
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser
from mld_core.information.estimator import surprisal
from mld_core.information.measures import joint_mutual_information, mutual_information

CASES = ((1, 0.0), (1, 1.0), (1, 3.0), (5, 0.0), (5, 1.0), (5, 3.0), (20, 0.0))
"""Dimensions of a side, and nats. The last says how far off a wide network is where nothing is."""

UPDATES = 2000


def draw(rows: int, dim: int, nats: float) -> torch.Tensor:
    """Rows of two standard normals with this much mutual information."""
    rho = math.sqrt(-math.expm1(-2 * nats / dim))
    x, noise = torch.randn(2, rows, dim)
    return torch.cat([x, rho * x.flip(1) + math.sqrt(1 - rho**2) * noise], 1)


def trained(z: torch.Tensor, dim: int) -> ScoreModel:
    """A small network after a short training on 20,000 rows, as the diffusion stage trains."""
    layout, schedule = LatentLayout({"x": dim, "y": dim}), VPSchedule()
    network = ResidualMLP(layout, schedule, width=128, depth=3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    ema = EMA(network.state_dict(), 0.999)
    generator = torch.Generator().manual_seed(0)
    warm = range(1, UPDATES // 50 + 1)
    rates = chain(
        (update / len(warm) for update in warm),
        (
            0.01 + 0.495 * (1 + math.cos(math.pi * update / UPDATES))
            for update in range(len(warm), UPDATES)
        ),
    )
    for update, rate in enumerate(rates, 1):
        optimiser.param_groups[0]["lr"] = 3e-3 * rate
        batch = z[torch.randint(len(z), (512,), generator=generator)]
        roles = draw_three_roles(torch.ones(512, 2).bool(), generator)
        times = multi_time_vector(draw_times(512, schedule, generator)[:, None], roles)
        eps = torch.randn(batch.shape, generator=generator)
        noisy = diffuse(batch, eps, times, roles, torch.zeros_like(batch), layout, schedule)
        loss, _ = masked_loss(network(noisy, times, roles), eps, times, roles, layout, schedule)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        ema.update(network.state_dict(), update)
    network.load_state_dict(ema.state)
    plain = Standardiser(torch.zeros(2 * dim), torch.ones(2 * dim), torch.zeros(2 * dim).bool())
    return ScoreModel(network.eval(), layout, schedule, plain, "three-role", torch.device("cpu"))


def main() -> None:
    """Measure, and print a table."""
    x, y, joint = (
        mutual_information("x", "y"),
        mutual_information("y", "x"),
        joint_mutual_information("x", "y"),
    )
    print("| dimensions | truth | from x | joint form | as told |\n|---|---|---|---|---|")
    for dim, nats in CASES:
        torch.manual_seed(0)
        model = trained(draw(20_000, dim, nats), dim)
        rows, held_out = (model.layout.split(draw(n, dim, nats)) for n in (2000, 500))
        plain = surprisal(model, rows, [x, joint], 0, shared=False)
        better = surprisal(model, rows, [x, y, joint], 0, shared=False, held_out=held_out)
        found = [plain.estimate(x), plain.estimate(joint), better.estimate(x, y, joint)]
        told = " | ".join(f"{own.value:.3f} ± {own.standard_error:.3f}" for own in found)
        print(f"| {dim} | {nats:g} | {told} |", flush=True)


if __name__ == "__main__":
    main()
