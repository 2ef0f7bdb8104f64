"""What every stage works with: where to write, what is kept, what computes, and the seed."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from pydantic import BaseModel, JsonValue
from torch import Tensor, nn

from mld.artefact import file_digest
from mld.compute import Compute
from mld.loop import Objective, Settings, Trained, train
from mld.rundir import RunDir, digest
from mld.seeds import derive
from mld.store import Store
from mld.training import run_updates

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld.sections import DiffuseSpec, TrainingSpec

    Training = DiffuseSpec | TrainingSpec

Network = TypeVar("Network", bound=nn.Module)

INPUTS: dict[str, tuple[str, ...]] = {
    "autoencode": ("data",),
    "latents": ("autoencode",),
    "diffuse": ("latents",),
    "generate": ("diffuse",),
    "judge": ("generate",),
}
"""The stages that a stage's results follow from."""


@dataclass(frozen=True)
class Workplace:
    """The surroundings of a run, handed to every stage."""

    run_dir: RunDir
    store: Store
    compute: Compute
    seed: int

    def made_from(self, stage: str, section: BaseModel | None) -> dict[str, JsonValue]:
        """All that decides a stage's results: its sub-spec, its input stages, how it computes."""
        return {
            "spec": None if section is None else section.model_dump(mode="json"),
            "inputs": {name: self.run_dir.digest(name) for name in INPUTS[stage]},
            "seed": self.seed,
            "precision": self.compute.precision,
            "threads": self.compute.threads,
        }

    def fresh(self, make: Callable[[], Network], *parts: str) -> Network:
        """A network whose initial weights derive from the seed and its name, and nothing else."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.seed, *parts, "initialise"))
            return make()

    def trained_once(
        self,
        job: str,
        objective: Objective,
        rows: Mapping[str, Tensor],
        validation: Mapping[str, Tensor],
        spec: Training,
        key: Mapping[str, JsonValue],
        ema: float | None = None,
    ) -> Trained:
        """The trained objective's weights, from the store where another run has trained the same.

        `key` is what decides the weights beside the settings and the computing.
        """
        key = self._whole_key(job, objective, spec, key, ema)
        with self.store.entry(key) as entry:
            if entry.found:
                self.run_dir.log("store", job=job, state="read back")
                return _unpacked(entry.read())
            settings = Settings(spec.updates, spec.batch, spec.learning_rate, ema, self.seed)
            trained = train(
                job,
                objective,
                rows,
                validation if len(next(iter(validation.values()))) else None,
                settings,
                self.compute,
                self.run_dir,
                made_from=digest(key),
            )
            entry.write(_packed(trained), {})
            return trained

    def is_training(
        self, job: str, objective: Objective, spec: Training, key: Mapping[str, JsonValue]
    ) -> bool:
        """Whether another run is at the same training just now, which `trained_once` waits for."""
        return self.store.is_held(self._whole_key(job, objective, spec, key, None))

    def _whole_key(
        self,
        job: str,
        objective: Objective,
        spec: Training,
        key: Mapping[str, JsonValue],
        ema: float | None,
    ) -> dict[str, JsonValue]:
        learnt_by = inspect.getfile(run_updates), inspect.getfile(type(objective))
        return {
            **key,
            "loss and loop": [file_digest(Path(file)) for file in learnt_by],
            "job": job.partition("/")[0],
            "training": [spec.updates, spec.batch, spec.learning_rate, ema],
            "seed": self.seed,
            "devices": self.compute.devices,
            "precision": self.compute.precision,
            "threads": self.compute.threads,
        }


def _packed(trained: Trained) -> dict[str, Tensor]:
    """Weights and their average in one mapping, as the store keeps them."""
    kinds = {"weights": trained.weights, "ema": trained.ema or {}}
    return {f"{kind}/{name}": own for kind, told in kinds.items() for name, own in told.items()}


def _unpacked(kept: Mapping[str, Tensor]) -> Trained:
    weights, ema = (
        {name.removeprefix(kind): own for name, own in kept.items() if name.startswith(kind)}
        for kind in ("weights/", "ema/")
    )
    return Trained(weights, ema or None)


@cache
def code_digest(module: str) -> str:
    """The sha256 of the Python files of a module's package: a plugin's code."""
    home = inspect.getfile(__import__(module.partition(".")[0]))
    package = Path(home).parent
    files = sorted(package.rglob("*.py")) if Path(home).name == "__init__.py" else [Path(home)]
    told = hashlib.sha256()
    for file in files:
        told.update(f"{file.relative_to(package).as_posix()}\n".encode())
        told.update(file.read_bytes())
    return told.hexdigest()


def tensor_digest(*tensors: Tensor) -> str:
    """The sha256 of tensors' shapes, types and bytes."""
    told = hashlib.sha256()
    for tensor in tensors:
        told.update(json.dumps([str(tensor.dtype), list(tensor.shape)]).encode())
        told.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return told.hexdigest()


__all__ = ["Workplace", "code_digest", "tensor_digest"]
