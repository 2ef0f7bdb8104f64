"""What an interrupted training needs to go on bit for bit, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mld.storage.run_dir import RunDir

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True)
class Checkpoint:
    """A training after `update` steps; `making` is the digest of all that shaped it.

    No generator's state is here: every random number derives from the seed and the update.
    """

    making: str
    update: int
    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimiser: Mapping[str, Tensor]
    scaler: Mapping[str, Any]

    def write(self, run_dir: RunDir, job: str) -> None:
        """Put it in the place of the last one."""
        groups = {"weights": self.weights, "ema": self.ema or {}, "optimiser": self.optimiser}
        told = {"making": self.making, "step": self.update, "scaler": dict(self.scaler)}
        run_dir.write_tensors(
            run_dir.checkpoint(job),
            {f"{group}/{name}": t for group, held in groups.items() for name, t in held.items()},
            {"checkpoint": json.dumps(told)},
        )


def read_checkpoint(run_dir: RunDir, job: str, making: str) -> Checkpoint | None:
    """The last checkpoint of a job; None without one, or if it is of another making.

    RunDirError if it is corrupt.
    """
    path = run_dir.checkpoint(job)
    if not path.is_file():
        return None
    tensors, metadata = run_dir.read_tensors_and_metadata(path)
    told = json.loads(metadata["checkpoint"])
    if told["making"] != making:
        return None
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "ema": {}, "optimiser": {}}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    return Checkpoint(
        making=making,
        update=told["step"],
        weights=groups["weights"],
        ema=groups["ema"] or None,
        optimiser=groups["optimiser"],
        scaler=told["scaler"],
    )


def optimiser_state(optimiser: Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers of each parameter, as flat names."""
    held = optimiser.state_dict()["state"]
    return {f"{index}.{slot}": t for index, slots in held.items() for slot, t in slots.items()}


def restore_optimiser(optimiser: Optimizer, state: Mapping[str, Tensor]) -> None:
    """Give an optimiser back what `optimiser_state` told."""
    held: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        index, _, slot = name.partition(".")
        held.setdefault(int(index), {})[slot] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": held, "param_groups": groups})
