"""What every stage works with: where to write, what is kept, what computes, and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from pydantic import BaseModel, JsonValue
from torch import nn

from mld.runtime.compute import Compute
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

Network = TypeVar("Network", bound=nn.Module)

INPUTS: dict[str, tuple[str, ...]] = {
    "autoencode": ("data",),
    "latents": ("autoencode",),
    "diffuse": ("latents",),
    "generate": ("diffuse",),
    "evaluate": ("generate",),
}
"""The stages that a stage's results follow from."""


@dataclass(frozen=True)
class RunContext:
    """The surroundings of a run, handed to every stage."""

    run_dir: RunDir
    store: Store
    compute: Compute
    seed: int

    def fingerprint(self, stage: str, section: BaseModel | None) -> dict[str, JsonValue]:
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
