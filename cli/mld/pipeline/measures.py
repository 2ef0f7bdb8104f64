"""Measurements of a run while its stages run: their time, their memory and that of trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import finalize

import torch
from pydantic import JsonValue
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mld.runtime.memory import private_memory
from mld.runtime.progress import Clock
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import StoreEntry, WeightStore


@dataclass(frozen=True)
class MeasuredTraining:
    """A training of a rehearsal.

    Args:
        rows: of a batch, of all processes.
        step_seconds: of a step, by one of the processes.
        activations: bytes that the backward pass of its part needs, and the weights.
        device_bytes: the most that a GPU held; 0 on a processor.
    """

    rows: int
    step_seconds: float
    activations: int
    device_bytes: int


@dataclass(frozen=True)
class MeasuredSampling:
    """How long sampling takes.

    Args:
        seconds, evaluation_seconds: of a sample in a full batch: once, and each network evaluation.
        rehearsed_seconds: of all samples of the rehearsal.
    """

    seconds: float
    evaluation_seconds: float
    rehearsed_seconds: float


@dataclass(frozen=True)
class MeasuredStage:
    """A stage of a rehearsal.

    Args:
        seconds: without those of trainings.
        file_bytes: of its files, by suffix.
        memory: bytes of this process at its end.
        device_bytes: the most that a GPU held; 0 on a processor.
    """

    seconds: float
    file_bytes: Mapping[str, int]
    memory: int
    device_bytes: int


@dataclass
class Measures:
    """What is measured while the stages run."""

    clock: Clock
    counts_activations: bool
    stages: dict[str, MeasuredStage] = field(default_factory=dict)
    activations: dict[str, int] = field(default_factory=dict)
    device_bytes: dict[str, int] = field(default_factory=dict)
    training_seconds: float = 0.0
    one_training: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class MeasuredRunDir(RunDir):
    """A run directory that measures its stages."""

    measures: Measures

    @contextmanager
    def stage(self, name: str, earlier_seconds: float = 0.0) -> Iterator[Any]:
        """As of every run directory."""
        measures = self.measures
        trained, start = measures.training_seconds, measures.clock()
        _forget_device_peak()
        with super().stage(name, earlier_seconds) as seconds:
            yield seconds
        elapsed = measures.clock() - start - (measures.training_seconds - trained)
        measures.stages[name] = MeasuredStage(elapsed, {}, private_memory(), _device_peak())


@dataclass(frozen=True)
class MeasuredStore(WeightStore):
    """A weight store that measures the trainings of its entries."""

    measures: Measures

    @contextmanager
    def entry(self, key: Mapping[str, JsonValue]) -> Iterator[StoreEntry]:
        """As of every store, around a training."""
        name = "/".join(str(key[part]) for part in ("job", "name") if part in key)
        measures, saved = self.measures, SavedTensors()
        with ExitStack() as stack:
            stack.enter_context(measures.one_training)
            start = measures.clock()
            if measures.counts_activations:
                stack.enter_context(saved_tensors_hooks(saved.pack, SavedTensor.unpack))
            yield stack.enter_context(super().entry(key))
            measures.activations[name] = saved.most_bytes
            measures.device_bytes[name] = _device_peak()
            measures.training_seconds += measures.clock() - start


class SavedTensor:
    """A tensor that a backward pass needs."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def unpack(self) -> Tensor:
        """The tensor."""
        return self.tensor


class SavedTensors:
    """Counts the bytes that backward passes need at the same time.

    Attributes:
        most_bytes: the most so far.
    """

    def __init__(self) -> None:
        self.most_bytes = 0
        self._bytes = 0
        self._uses: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> SavedTensor:
        """Count a tensor until the result is deleted; its memory counts once."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self._uses[address] = self._uses.get(address, 0) + 1
        if self._uses[address] == 1:
            self._bytes += size
            self.most_bytes = max(self.most_bytes, self._bytes)
        saved = SavedTensor(tensor)
        finalize(saved, self._forget, address, size)
        return saved

    def _forget(self, address: int, size: int) -> None:
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address]
            self._bytes -= size


def _forget_device_peak() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def _device_peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
