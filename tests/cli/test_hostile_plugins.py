"""Plugins that misbehave when imported hurt no command that does not need them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"
HOSTILE = {
    "raises": "raise RuntimeError('no luck')",
    "exits": "import sys; sys.exit(0)",
    "prints": "import os, sys; print('spoilt'); sys.stdout.write('spoilt')",
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


class World:
    """A folder on the path with distributions whose modules leave a mark when imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.site.mkdir()
        self.install("mld_points", "points", (PLUGINS / "mld_points.py").read_text())

    def install(self, module: str, kind: str, code: str) -> None:
        mark = f"open({str(self.folder / f'{module}.imported')!r}, 'w').close()\n"
        future, _, rest = code.partition("from __future__ import annotations\n")
        (self.site / f"{module}.py").write_text(f"{future}\n{mark}{rest}" if rest else mark + code)
        info = self.site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mld]\n{kind} = {module}\n")

    def mld(self, *words: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.site), *filter(None, sys.path)])
        return subprocess.run(
            [sys.executable, "-c", "from mld.app import main; main()", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "MLD_STORE": str(self.folder / "store")},
            capture_output=True,
            text=True,
        )

    def imported(self) -> set[str]:
        return {path.stem for path in self.folder.glob("*.imported")}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.slow
def test_what_does_not_need_them_is_as_before(world: World) -> None:
    (world.folder / "small.yaml").write_text(SPEC)
    before = world.mld("--help"), world.mld("run", "small.yaml", "--out", "before")
    assert [done.returncode for done in before] == [0, 0], before[1].stderr
    for kind, code in HOSTILE.items():
        world.install(f"mld_{kind}", kind, code)
    after = world.mld("--help"), world.mld("run", "small.yaml", "--out", "after")
    assert [done.returncode for done in after] == [0, 0], after[1].stderr
    assert after[0].stdout == before[0].stdout
    assert after[1].stdout == before[1].stdout.replace("before", "after")
    scores = [
        json.loads((world.folder / out / "metrics.json").read_text()) for out in ("before", "after")
    ]
    for own in scores:
        own.pop("seconds_per_sample")
    assert scores[0] == scores[1]
    assert world.imported() == {"mld_points"}


def test_each_is_listed_with_its_stage_and_reason(world: World) -> None:
    for kind, code in HOSTILE.items():
        if kind != "sleeps":
            world.install(f"mld_{kind}", kind, code)
    done = world.mld("modalities", "--json")
    assert done.returncode == 0, done.stderr
    told = {entry["kind"]: entry for entry in json.loads(done.stdout)}
    assert [told[kind]["stage"] for kind in ("raises", "exits", "prints", "points")] == [
        "import",
        "import",
        "contract",
        "",
    ]
    assert told["raises"]["problem"] == "import failed: RuntimeError: no luck"
    assert (told["exits"]["distribution"], told["exits"]["version"]) == ("mld_exits", "1.0")
    assert done.stderr.count("spoilt") == 2
    assert world.mld("modalities", "--strict").returncode == 4
    blocked = [word for kind in HOSTILE if kind != "sleeps" for word in ("--no-plugin", kind)]
    done = world.mld(*blocked, "modalities", "--strict")
    assert done.returncode == 0, done.stderr


def test_a_spec_that_needs_one_is_told_the_cause(world: World) -> None:
    world.install("mld_exits", "exits", HOSTILE["exits"])
    (world.folder / "small.yaml").write_text(SPEC.replace("b: {kind: points", "b: {kind: exits"))
    done = world.mld("run", "small.yaml")
    assert done.returncode == 3
    assert "modalities.b.kind: kind 'exits' (mld_exits 1.0) cannot be used: import failed: " in (
        done.stderr
    )
    assert "Traceback" not in done.stderr
