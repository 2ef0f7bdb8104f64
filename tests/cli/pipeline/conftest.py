from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mld.config.spec import Spec, load_spec
from mld_core import Registry

MANIFEST_SPEC = """
name: rows
data: {kind: manifest, path: rows.csv}
modalities: {a: {kind: marks, latent_dim: 3}, b: {kind: marks, latent_dim: 3}}
autoencode: {steps: 2, batch_size: 4}
diffuse: {network: {width: 8, depth: 1, kind: residual-mlp}, steps: 2, batch_size: 4}
generate: {num_samples: 3, num_previews: 1, steps: 2}
evaluate: {steps: 2, batch_size: 4}
compute: {threads: 1}
"""


@pytest.fixture(scope="session")
def spec_file(small_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    path.write_text(small_run.SPEC)
    return path


@pytest.fixture(scope="session")
def make_spec(spec_file: Path, registry: Registry) -> Callable[..., Spec]:
    """The spec of a small run, with overrides."""
    return lambda *overrides: load_spec(spec_file, registry, overrides)


@pytest.fixture
def spec_of(tmp_path: Path, registry: Registry) -> Callable[..., Spec]:
    """The spec over a manifest of kinds of rows, with overrides.

    Of each kind: the modalities that it has with its label, its split, and how many.
    """

    def build(rows: list[tuple[str, str, int]], *overrides: str) -> Spec:
        lines = ["a,b,split,label"]
        for content, split, count in rows:
            names, _, label = content.partition(" ")
            for number in range(count):
                cell = f"1 2 3 4 5 {number}"
                a, b = (cell if name in names else "" for name in "ab")
                lines.append(f"{a},{b},{split},{label}")
        (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "rows.yaml").write_text(MANIFEST_SPEC)
        return load_spec(tmp_path / "rows.yaml", registry, overrides)

    return build
