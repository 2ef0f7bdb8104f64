"""Checkpoints: the state of a training in one safetensors file, enough to resume it bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import Tensor

from mld.storage.run_dir import RunDir

if TYPE_CHECKING:
    from torch.optim import Optimizer

Value = TypeVar("Value")

Ending = Literal["steps", "patience", "time limit"]
"""What ends a training: its number of steps, or earlier the setting of this name."""


@dataclass(frozen=True)
class TrainingEnd:
    """How a training has ended: after `step` of `steps` steps.

    Args:
        best: the step whose weights are the result, those with the lowest validation loss; None:
            the last one.
    """

    reason: Ending
    step: int
    steps: int
    best: int | None = None


@dataclass(frozen=True)
class BestWeights:
    """The weights, averaged if they are, of the step with the lowest validation loss so far."""

    step: int
    loss: float
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` steps; `fingerprint` identifies the training.

    There is no generator state: every random draw derives from the seed and the step. `best` is
    None in a training that needs the last weights alone, `ended` in one that goes on.

    Args:
        seconds: that the training has taken, summed over resumes.
    """

    fingerprint: str
    step: int
    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    scaler: Mapping[str, Any]
    best: BestWeights | None = None
    ended: Ending | None = None
    seconds: float = 0.0

    def write(self, run_dir: RunDir, job: str) -> None:
        """Replace the job's last checkpoint."""
        best = self.best
        groups = {
            "weights": self.weights,
            "ema": self.ema or {},
            "optimizer": self.optimizer,
            "best": best.state if best else {},
        }
        metadata = {
            "fingerprint": self.fingerprint,
            "step": self.step,
            "scaler": dict(self.scaler),
            "best": [best.step, best.loss] if best else None,
            "ended": self.ended,
            "seconds": self.seconds,
        }
        path, text = run_dir.checkpoint(job), json.dumps(metadata)
        run_dir.write_tensors(path, flatten(groups), {"checkpoint": text})


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
    groups = unflatten(tensors)
    best = None
    if metadata["best"]:
        step, loss = metadata["best"]
        best = BestWeights(step, loss, groups["best"])
    return Checkpoint(
        fingerprint=fingerprint,
        step=metadata["step"],
        weights=groups["weights"],
        ema=groups.get("ema"),
        optimizer=groups.get("optimizer", {}),
        scaler=metadata["scaler"],
        best=best,
        ended=metadata["ended"],
        seconds=metadata["seconds"],
    )


def flatten(groups: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """Groups of values in one mapping, by "group/name"."""
    return {f"{group}/{name}": x for group, named in groups.items() for name, x in named.items()}


def unflatten(flat: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """The groups that `flatten` was given; empty ones are missing."""
    groups: dict[str, dict[str, Value]] = {}
    for key, value in flat.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = value
    return groups


def optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state of each parameter, flattened to "index/slot"."""
    return flatten(optimizer.state_dict()["state"])


def restore_optimizer(optimizer: Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Load what `optimizer_state` returned."""
    state = {int(index): slots for index, slots in unflatten(flat).items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
