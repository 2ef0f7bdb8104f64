"""Checkpoints: the state of a training in one safetensors file, enough to resume it bit for bit."""

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
    """A training after `step` steps; `fingerprint` identifies the training.

    There is no generator state: every random draw derives from the seed and the step.
    """

    fingerprint: str
    step: int
    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    scaler: Mapping[str, Any]

    def write(self, run_dir: RunDir, job: str) -> None:
        """Replace the job's last checkpoint."""
        groups = {"weights": self.weights, "ema": self.ema or {}, "optimizer": self.optimizer}
        metadata = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "scaler": dict(self.scaler),
        }
        run_dir.write_tensors(
            run_dir.checkpoint(job),
            {f"{group}/{name}": t for group, state in groups.items() for name, t in state.items()},
            {"checkpoint": json.dumps(metadata)},
        )


def read_checkpoint(run_dir: RunDir, job: str, fingerprint: str) -> Checkpoint | None:
    """The last checkpoint of a job; None without one, or if it is of another training.

    RunDirError if it is corrupt.
    """
    path = run_dir.checkpoint(job)
    if not path.is_file():
        return None
    tensors, file_metadata = run_dir.read_tensors_and_metadata(path)
    metadata = json.loads(file_metadata["checkpoint"])
    if metadata["fingerprint"] != fingerprint:
        return None
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "ema": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    return Checkpoint(
        fingerprint=fingerprint,
        step=metadata["step"],
        weights=groups["weights"],
        ema=groups["ema"] or None,
        optimizer=groups["optimizer"],
        scaler=metadata["scaler"],
    )


def optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state of each parameter, flattened to "index.slot"."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{slot}": t for index, slots in state.items() for slot, t in slots.items()}


def restore_optimizer(optimizer: Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Load what `optimizer_state` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
