"""Context shared by all stages: run directory, weight store, compute settings, seed, spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from pydantic import JsonValue
from torch import nn

from mld.runtime.compute import Compute
from mld.runtime.nodes import Followers
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.stages import Stage
from mld.storage.weight_store import WeightStore

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class RunContext:
    """What every stage of a run needs.

    Args:
        seed: seed of every random draw.
        sections: the resolved spec as JSON, by section; of `start_from` the digest of that run.
        followers: the other processes of the run, if a launcher has started several.
        rehearse: takes a training job and this context and returns weights, in place of a training
            and of the store, in a rehearsal.
    """

    run_dir: RunDir
    store: WeightStore
    compute: Compute
    seed: int
    sections: Mapping[str, JsonValue] = field(default_factory=dict)
    followers: Followers | None = None
    rehearse: Callable[[Any, RunContext], Any] | None = None

    def fingerprint(
        self, stage: Stage, digest_of: Callable[[str], str] | None = None
    ) -> dict[str, JsonValue]:
        """Everything that decides a stage's result: spec, input stages, seed and compute.

        RunDirError if an input stage is incomplete.

        Args:
            digest_of: of a stage's fingerprint; by default from the run directory.
        """
        digest_of = digest_of or self.run_dir.stage_digest
        return {
            **{name: self.sections[name] for name in stage.sections if name in self.sections},
            "inputs": {name: digest_of(name) for name in stage.inputs},
            "seed": self.seed,
            "precision": self.compute.precision,
            "threads": self.compute.threads,
            **self.compute.optional_settings,
        }

    def seeded_init(self, build: Callable[[], Network], *names: str) -> Network:
        """A network whose initial weights depend on the seed and its names alone."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.seed, *names, "initialise"))
            return build()
