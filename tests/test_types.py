"""A type checker sees the real types of the public names, as the author of a plugin needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mld
import mld_core

PLUGIN = '''
"""A third-party modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mld_core import (
    Autoencoder,
    Classifier,
    Metric,
    Modality,
    ModalityConfig,
    SplitName,
    hookimpl,
)


class TideConfig(ModalityConfig):
    latent_dim: int = Field(ge=1, description="width of the latent")
    samples: int = Field(32, gt=0, description="samples of one item")


class TideAutoencoder(Autoencoder):
    def __init__(self, samples: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(samples, latent_dim)
        self.decoder = nn.Linear(latent_dim, samples)

    def encode(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        x: Tensor = self.decoder(z)
        return x

    def loss(self, z: Tensor, x: Tensor) -> Tensor:
        return (self.decode(z) - x).square().sum(1)


class TideClassifier(Classifier):
    def __init__(self, samples: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(samples, classes)

    def features(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def mean_error(items: Tensor, reference: Tensor) -> float:
    return (items - reference).abs().mean().item()


class Tide(Modality):
    kind: ClassVar[str] = "tide"
    Config: ClassVar[type[ModalityConfig]] = TideConfig

    def read(self, source: Path | str) -> Any:
        return np.loadtxt(source)

    def preprocess(self, raw: Any) -> Tensor:
        return torch.as_tensor(raw, dtype=torch.float32)

    def autoencoder(self) -> Autoencoder:
        return TideAutoencoder(32, self.latent_dim)

    def classifier(self, classes: int) -> Classifier:
        return TideClassifier(32, classes)

    def metrics(self) -> Mapping[str, Metric]:
        return {"error": Metric(mean_error, "originals", "lower", best=0.0)}

    def write(self, x: Tensor, stem: Path) -> Path:
        path = stem.with_suffix(".txt")
        np.savetxt(path, x.numpy())
        return path

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        return [rng.normal(label, size=32) for label in labels]


@hookimpl
def register_modalities() -> list[type[Modality]]:
    return [Tide]
'''

ERRORS = {
    "return TideAutoencoder(32, self.latent_dim)": (
        "return TideClassifier(32, self.latent_dim)",
        "return-value",
    ),
    '"originals", "lower"': ('"originals", "smaller"', "arg-type"),
    "self.latent_dim": ("self.latent_dims", "attr-defined"),
    "def encode(self, x: Tensor) -> Tensor:": (
        "def encode(self, x: Tensor, y: Tensor) -> Tensor:",
        "override",
    ),
    "return [Tide]": ("return [TideConfig]", "list-item"),
}
"""Edits that make one type error each, and mypy's code of it."""


_ERROR_LINE = re.compile(r"(\S+?\.py):\d+: error: .*\[([a-z-]+)\]")


@pytest.mark.slow
def test_a_plugin_is_checked_against_real_types(tmp_path: Path) -> None:
    (tmp_path / "valid.py").write_text(PLUGIN)
    expected = set()
    for index, (old, (new, code)) in enumerate(ERRORS.items()):
        edited = PLUGIN.replace(old, new)
        (tmp_path / f"error_{index}.py").write_text(edited)
        expected.add((f"error_{index}.py", code))
    names = [f"{module.__name__}.{name}" for module in (mld, mld_core) for name in module.__all__]
    reveals = "".join(f"reveal_type({name})\n" for name in names)
    (tmp_path / "public.py").write_text(f"import mld\nimport mld_core\n{reveals}")

    lines = _mypy(tmp_path)

    errors = {match.groups() for line in lines if (match := _ERROR_LINE.fullmatch(line))}
    assert errors == expected, "\n".join(lines)
    types = [line for line in lines if "Revealed type" in line]
    assert len(types) == len(names)
    assert not [line for line in types if line.endswith('"Any"')]


def _mypy(folder: Path) -> list[str]:
    """Lines that mypy prints of the modules in a folder, which is outside the checkout."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "."]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout.splitlines()
