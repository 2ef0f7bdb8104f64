"""Plugins that misbehave when imported affect no command that does not need them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

PLUGINS = Path(__file__).parent.parent / "plugins"
HOSTILE = {
    "raises": "raise RuntimeError('no luck')",
    "exits": "import sys; sys.exit(0)",
    "prints": "import os, sys; print('printed'); sys.stdout.write('printed')",
    "sleeps": "import time; time.sleep(3)",
}
SPEC = """
name: small
data: {kind: examples, train: 40, validation: 10, test: 10}
modalities: {a: {kind: points, latent_dim: 2}, b: {kind: points, latent_dim: 2}}
autoencode: {steps: 5, batch_size: 8}
diffuse: {network: {kind: residual-mlp, width: 8, depth: 1}, steps: 5, batch_size: 8}
generate: {num_samples: 4, num_previews: 1, steps: 2}
evaluate: {steps: 5, batch_size: 8}
compute: {threads: 1}
"""


class Environment:
    """Distributions on the path whose modules leave a marker file when they are imported."""

    def __init__(self, folder: Path, python: Callable[..., CompletedProcess[str]]) -> None:
        self.folder, self.python = folder, python
        self.site = folder / "site"
        self.site.mkdir()
        self.install("mld_points", "points", (PLUGINS / "mld_points.py").read_text())

    def install(self, module: str, kind: str, code: str) -> None:
        marker = f"open({str(self.folder / f'{module}.imported')!r}, 'w').close()\n"
        future, _, rest = code.partition("from __future__ import annotations\n")
        text = f"{future}\n{marker}{rest}" if rest else marker + code
        (self.site / f"{module}.py").write_text(text)
        info = self.site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mld]\n{kind} = {module}\n")

    def mld(self, *words: str) -> CompletedProcess[str]:
        path = os.pathsep.join([str(self.site), *filter(None, sys.path)])
        env = {**os.environ, "PYTHONPATH": path, "MLD_STORE": str(self.folder / "store")}
        code = "from mld.app import main; main()"
        return self.python(code, *words, cwd=self.folder, env=env)

    def imported(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.imported")}


@pytest.fixture
def environment(tmp_path: Path, warm_python: Callable[..., CompletedProcess[str]]) -> Environment:
    return Environment(tmp_path, warm_python)


@pytest.mark.slow
def test_run_is_unaffected(environment: Environment) -> None:
    (environment.folder / "small.yaml").write_text(SPEC)
    before = environment.mld("--help"), environment.mld("run", "small.yaml", "--out", "before")
    assert [process.returncode for process in before] == [0, 0], before[1].stderr
    for kind, code in HOSTILE.items():
        environment.install(f"mld_{kind}", kind, code)
    after = environment.mld("--help"), environment.mld("run", "small.yaml", "--out", "after")
    assert [process.returncode for process in after] == [0, 0], after[1].stderr
    assert after[0].stdout == before[0].stdout
    assert after[1].stdout == before[1].stdout.replace("before", "after")
    metrics = [
        json.loads((environment.folder / out / "metrics.json").read_text())
        for out in ("before", "after")
    ]
    for values in metrics:
        values.pop("seconds_per_sample")
        values.pop("sha256")  # of all values
    assert metrics[0] == metrics[1]
    assert environment.imported() == {"mld_points"}


def test_listed_with_stage_and_problem(environment: Environment) -> None:
    for kind, code in HOSTILE.items():
        if kind != "sleeps":
            environment.install(f"mld_{kind}", kind, code)
    process = environment.mld("modalities", "--json")
    assert process.returncode == 0, process.stderr
    entries = {entry["kind"]: entry for entry in json.loads(process.stdout)}
    assert [entries[kind]["stage"] for kind in ("raises", "exits", "prints", "points")] == [
        "import",
        "import",
        "contract",
        "",
    ]
    assert entries["raises"]["problem"] == "import failed: RuntimeError: no luck"
    assert (entries["exits"]["distribution"], entries["exits"]["version"]) == ("mld_exits", "1.0")
    assert process.stderr.count("printed") == 2
    assert environment.mld("modalities", "--strict").returncode == 4
    blocked = [word for kind in HOSTILE if kind != "sleeps" for word in ("--no-plugin", kind)]
    process = environment.mld(*blocked, "modalities", "--strict")
    assert process.returncode == 0, process.stderr


def test_spec_that_names_one_reports_the_problem(environment: Environment) -> None:
    environment.install("mld_exits", "exits", HOSTILE["exits"])
    spec = SPEC.replace("b: {kind: points", "b: {kind: exits")
    (environment.folder / "small.yaml").write_text(spec)
    process = environment.mld("run", "small.yaml")
    assert process.returncode == 3
    assert "modalities.b.kind: kind 'exits' (mld_exits 1.0) cannot be used: import failed: " in (
        process.stderr
    )
    assert "Traceback" not in process.stderr
