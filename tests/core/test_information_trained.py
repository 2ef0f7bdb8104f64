"""What a trained network says of information that is known."""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch

from mld_core.conditional import ScoreModel
from mld_core.ema import EMA
from mld_core.information import surprisal
from mld_core.layout import LatentLayout
from mld_core.measures import joint_mutual_information, mutual_information
from mld_core.multitime import diffuse, draw_times, masked_loss, multi_time_vector
from mld_core.networks import ResidualMLP
from mld_core.roles import draw_three_roles
from mld_core.schedule import VPSchedule
from mld_core.standardise import Standardiser

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dim", "nats"),
    [(1, 3.0), (5, 1.0)]
    + [
        pytest.param(dim, nats, marks=pytest.mark.long)
        for dim, nats in [(1, 0.0), (1, 1.0), (3, 0.3), (5, 0.0), (5, 3.0)]
    ],
)
def test_a_short_training_is_enough(dim: int, nats: float) -> None:
    """Within 10 % or 0.05 nats of the truth, by both forms, on 2,000 fresh rows."""
    torch.manual_seed(0)
    model = trained(draw(20_000, dim, nats), dim)
    rows = model.layout.split(draw(2000, dim, nats))
    measures = [mutual_information("x", "y"), joint_mutual_information("x", "y")]
    found = surprisal(model, rows, measures, seed=0, shared=False)
    for measure in measures:
        estimate = found.estimate(measure)
        allowed = max(0.05, 0.1 * nats)
        assert abs(estimate.value - nats) < allowed, estimate
