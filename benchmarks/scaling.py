"""What training and sampling cost as modalities are added: python benchmarks/scaling.py.

Each number of modalities is measured in a process of its own, half of them 16 latents wide and
half 32, on latents drawn at random: cost does not depend on what they say. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from mld.config.sections import DiffuseSpec, ResidualMLPSpec
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.sampling import ScoreModel, sample_latents
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

COUNTS = (2, 4, 6, 8, 10, 12, 16)
BATCH, UPDATES, SAMPLES = 512, 40, 64


def measure(modalities: int) -> dict[str, float]:
    """Seconds of an update and of a sample, peak memory and parameters."""
    torch.manual_seed(0)
    layout = LatentLayout({f"m{i}": 16 if i % 2 else 32 for i in range(modalities)})
    spec = DiffuseSpec(network=ResidualMLPSpec(width=256, depth=4))
    schedule = VPSchedule()
    network = build_network(spec, layout, schedule)
    objective = DenoisingObjective(spec, layout, schedule, network)
    adam = torch.optim.Adam(objective.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    rows = {
        "z": torch.randn(BATCH, layout.joint_dim),
        "present": torch.ones(BATCH, modalities, dtype=torch.bool),
    }

    def update() -> None:
        adam.zero_grad()
        objective(rows, generator)[0].backward()
        adam.step()

    def sample(guidance: float) -> None:
        told = Guidance(guidance, guidance)
        sample_latents(model, {}, layout.names, range(SAMPLES), guidance=told)

    found = {"update_ms": 1000 * _seconds(update, UPDATES)}
    wide = torch.zeros(layout.joint_dim)
    plain = Standardiser(wide, wide + 1, wide.bool())
    cpu = torch.device("cpu")
    model = ScoreModel(network.eval(), layout, schedule, plain, "three-role", cpu)
    for name, guidance in ("sample_ms", 0.0), ("guided_ms", 1.0):
        found[name] = 1000 * _seconds(lambda w=guidance: sample(w), 3) / SAMPLES
    found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["parameters"] = sum(p.numel() for p in network.parameters())
    found["subsets"] = len(conditioning_subsets(layout.names))
    return found


def _seconds(call, times: int) -> float:
    call()
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times


def main() -> None:
    """One process a count, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int, help="measure one count, as JSON")
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    if told.one:
        print(json.dumps(measure(told.one)))
        return
    heads = ("modalities", "parameters", "an update, ms", "a sample, ms", "guided, ms", "peak MB")
    print(f"| {' | '.join(heads)} | subsets |")
    print("|---|---|---|---|---|---|---|")
    for count in COUNTS:
        command = [sys.executable, __file__, "--one", str(count), "--threads", str(told.threads)]
        own = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        print(
            f"| {count} | {own['parameters']:,} | {own['update_ms']:.1f} | {own['sample_ms']:.2f} "
            f"| {own['guided_ms']:.2f} | {own['megabytes']:.0f} | {own['subsets']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
