"""A training job: the objective, its rows and its configuration."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

from jaxtyping import Float
from pydantic import JsonValue
from torch import Generator, Tensor, nn

from mld.config.sections import DiffuseSpec, TrainingSpec
from mld.data.stored_rows import StoredRows, digest_rows
from mld.runtime.context import RunContext
from mld.storage.digests import digest, source_digest

Rows = Mapping[str, Tensor | StoredRows]
"""Rows by what they hold, such as "x"."""


class Objective(nn.Module, ABC):
    """A loss to minimise; the network to train is its submodule.

    Buffers must change in place: the average of the weights follows the tensors that exist when
    training starts.
    """

    compiled: ClassVar[str] = "forward"
    """The method, through submodules, that `compute.compile` compiles: best one without draws."""
    warns_if_early: ClassVar[bool] = True
    """Whether it is worth a warning that the best weights are those of an early step."""

    @abstractmethod
    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch, and its parts by modality, with the same names in every call.

        Random draws come from `generator`, which is on the batch's device; dropout and the like
        may use torch's global generator.
        """

    def sampling_weights(self, rows: Rows) -> Float[Tensor, " row"] | None:
        """Relative probability of drawing each training row; None for uniform sampling."""
        return None


def count_parameters(network: nn.Module) -> int:
    """How many numbers a network's parameters hold."""
    return sum(parameter.numel() for parameter in network.parameters())


def is_trainable(network: nn.Module) -> bool:
    """Whether a network has trainable parameters."""
    return any(parameter.requires_grad for parameter in network.parameters())


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a training job.

    Args:
        batch_size: rows of a step, over all devices.
        ema_decay: of the moving average of the weights; None for no average.
        keep: which weights are the result: the last ones, or those with the lowest validation loss,
            averaged if there is an average; the last ones also where there are no validation rows.
        patience: end after so many validations in a row without a lower loss.
        time_limit: end after so many seconds, summed over resumes.
        micro_batch_size: rows of a batch that a process computes at a time; None for all.
    """

    steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float | None = None
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    time_limit: float | None = None
    micro_batch_size: int | None = None

    @classmethod
    def of_network(cls, spec: TrainingSpec) -> Self:
        """Of a network whose weights are not averaged; with patience, the best are kept."""
        return cls(
            steps=spec.steps,
            batch_size=spec.batch_size,
            learning_rate=spec.learning_rate,
            keep="best" if spec.patience else "last",
            patience=spec.patience,
            time_limit=spec.time_limit,
            micro_batch_size=spec.micro_batch_size,
        )


def deciding_settings(spec: TrainingSpec | DiffuseSpec) -> dict[str, JsonValue]:
    """The settings of a training that decide its weights, unless it is cut short."""
    settings: dict[str, JsonValue] = spec.model_dump(mode="json")
    return {name: value for name, value in settings.items() if name != "time_limit"}


@dataclass(frozen=True)
class TrainJob:
    """One training job, as a stage defines it and the loop runs it.

    Args:
        name: in checkpoints, events and errors: "diffuse", "autoencode/digit".
        objective: the loss and the network; the loop trains a copy.
        rows: training rows along the first axis of each, drawn with replacement; a batch holds
            tensors, also of stored rows.
        validation: validation rows, likewise; may be empty.
        key: what decides the weights beside `rows`, `config` and the run's compute and seed.
    """

    name: str
    objective: Objective
    rows: Rows
    validation: Rows
    config: TrainConfig
    key: Mapping[str, JsonValue]

    def cache_key(self, context: RunContext) -> dict[str, JsonValue]:
        """Everything that decides the weights, unless the training is cut short."""
        config = asdict(replace(self.config, time_limit=None))
        return {
            **self.key,
            **self._content,
            "job": self.name.partition("/")[0],
            "config": {name: value for name, value in config.items() if value is not None},
            "seed": context.seed,
            "devices": context.compute.devices,
            "precision": context.compute.precision,
            "threads": context.compute.threads,
            "processes": context.compute.processes,
            **context.compute.optional_settings,
        }

    def fingerprint(self, context: RunContext) -> str:
        """Digest of the cache key and the name: a checkpoint with another one is not resumed."""
        return digest({**self.cache_key(context), "name": self.name})

    def moved(self, rows: Rows, validation: Rows) -> TrainJob:
        """The same job with equal rows elsewhere, or none for now; digests are kept."""
        job = replace(self, rows=rows, validation=validation)
        job.__dict__["_content"] = self._content
        return job

    @cached_property
    def _content(self) -> dict[str, JsonValue]:
        sources = inspect.getfile(type(self.objective)), Path(__file__).with_name("loop.py")
        state = self.objective.state_dict()
        return {
            "code": [source_digest(Path(path).read_text(encoding="utf-8")) for path in sources],
            "shapes": {name: list(tensor.shape) for name, tensor in state.items()},
            "rows": [*map(digest_rows, self.rows.values())],
        }
