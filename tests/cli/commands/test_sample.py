"""Options of `mld sample` that cannot be fulfilled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

OVERRIDES = ["autoencode={steps: 2}", "diffuse.steps=2", "evaluate={steps: 2}", "generate.steps=2"]
OVERRIDES += [
    "generate.num_samples=2",
    "data={kind: examples, train: 40, validation: 10, test: 10}",
]


def test_invalid_sampling_options(mld_small: Callable[..., Result]) -> None:
    overrides = [word for override in OVERRIDES for word in ("--set", override)]
    assert mld_small("run", "small.yaml", *overrides).exit_code == 0
    Path("file").touch()
    samplers = "must be one of 'dpm-solver++', 'sde-dpm-solver++', 'ddim', 'heun'"
    for args, code, message in [
        (["--sampler", "dimm"], 2, f"sampler: {samplers}"),
        (["--sampler", "dimm"], 2, "not 'dimm'; did you mean 'ddim'?"),
        (["--guidance", "inf"], 2, "guidance: must be finite, not inf"),
        (["--guidance", "1e30"], 2, "guidance: must be at most 1e+06, not 1e+30"),
        (["--steps", "1" + 15 * "0"], 2, "steps: must be at most 100000, not 1000000000000000"),
        (["--seed", "1", "--seed", "2"], 2, "--seed': given twice"),
        (["--given", "left=a.txt", "--given", "left=b.txt"], 2, "--given names 'left' twice"),
        (["--json", "--json"], 2, "--json': given twice"),
        (["--want", "left,left"], 3, "each modality can be wanted once"),
        (["--guidance", "nan"], 2, "--guidance"),
        (["--guidance", "-2"], 2, "--guidance"),
        (["--steps", "0"], 2, "--steps"),
        (["--out", "file"], 6, "file cannot be written: file is not a folder: choose another with"),
        (["--want", "nosuch"], 3, "nosuch"),
    ]:
        result = mld_small("sample", "runs/small", *args)
        assert result.exit_code == code, (args, result.output)
        assert message in result.stderr, args
        assert "Traceback" not in result.output
