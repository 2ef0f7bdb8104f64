"""Cost of training and sampling by number of modalities: python benchmarks/scaling.py.

Each number of modalities is measured in a process of its own. Half of the modalities have 16
latent dimensions and half 32, or all have a sequence of --tokens; the latents are random, as the
cost does not depend on them. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from mld.config.sections import DiffuseSpec, ResidualMLPSpec, TransformerSpec
from mld.pipeline.diffusion_method import DenoisingObjective, build_network
from mld.training.job import count_parameters
from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import conditioning_subsets
from mld_core.diffusion.sampling import ScoreModel, sample_latents
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser

MODALITY_COUNTS = (2, 4, 6, 8, 10, 12, 16)
BATCH_SIZE = 512
TRAINING_STEPS = 40
SAMPLES = 64


def measure(modalities: int, tokens: int) -> dict[str, float]:
    """Milliseconds per training step and per sample, peak memory, parameters and subsets.

    Of a residual MLP on vectors, or of a transformer on sequences of `tokens`, if there are any.
    """
    torch.manual_seed(0)
    names = [f"m{i}" for i in range(modalities)]
    if tokens:
        layout = LatentLayout(dict.fromkeys(names, (tokens, 8)))
        spec = DiffuseSpec(network=TransformerSpec(width=128, depth=4))
    else:
        layout = LatentLayout.of_vectors(
            {name: 16 if i % 2 else 32 for i, name in enumerate(names)}
        )
        spec = DiffuseSpec(network=ResidualMLPSpec(width=256, depth=4))
    schedule = VPSchedule()
    network = build_network(spec, layout, schedule)
    objective = DenoisingObjective(spec, layout, schedule, network)
    adam = torch.optim.Adam(objective.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    batch_size = BATCH_SIZE // 16 if tokens else BATCH_SIZE
    batch = {
        "z": torch.randn(batch_size, layout.joint_dim),
        "present": torch.ones(batch_size, modalities, dtype=torch.bool),
    }

    def training_step() -> None:
        adam.zero_grad()
        objective(batch, generator)[0].backward()
        adam.step()

    steps = TRAINING_STEPS // 10 if tokens else TRAINING_STEPS
    results = {"step_ms": 1000 * _seconds_per_call(training_step, steps)}
    zeros = torch.zeros(layout.joint_dim)
    identity = Standardiser(zeros, zeros + 1, zeros.bool())
    cpu = torch.device("cpu")
    model = ScoreModel(network.eval(), layout, schedule, identity, "three-role", cpu)
    samples = SAMPLES // 4 if tokens else SAMPLES
    for name, strength in ("sample_ms", 0.0), ("guided_sample_ms", 1.0):
        guidance = Guidance(strength, strength)

        def sample(guidance: Guidance = guidance) -> None:
            sample_latents(model, {}, layout.names, range(samples), guidance=guidance)

        results[name] = 1000 * _seconds_per_call(sample, 3) / samples
    results["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results["parameters"] = count_parameters(network)
    results["subsets"] = len(conditioning_subsets(layout.names))
    return results


def _seconds_per_call(function: Callable[[], None], calls: int) -> float:
    """The mean over some calls, after one that is not counted."""
    function()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def main() -> None:
    """Measure every number of modalities, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modalities", type=int, help="measure this number only; prints JSON")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=0, help="per modality, for a transformer")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.modalities:
        print(json.dumps(measure(args.modalities, args.tokens)))
        return
    headers = (
        "modalities",
        "parameters",
        "training step, ms",
        "sample, ms",
        "guided sample, ms",
        "peak MB",
        "subsets",
    )
    print(f"| {' | '.join(headers)} |")
    print(f"|{'---|' * len(headers)}")
    for count in MODALITY_COUNTS:
        options = [f"--modalities={count}", f"--threads={args.threads}", f"--tokens={args.tokens}"]
        process = subprocess.run(
            [sys.executable, __file__, *options], check=True, capture_output=True
        )
        results = json.loads(process.stdout)
        cells = [
            f"{count}",
            f"{results['parameters']:,}",
            f"{results['step_ms']:.1f}",
            f"{results['sample_ms']:.2f}",
            f"{results['guided_sample_ms']:.2f}",
            f"{results['peak_mb']:.0f}",
            f"{results['subsets']}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
