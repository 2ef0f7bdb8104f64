"""The processes of one training, its ranks: each computes the gradients of a share of a batch."""

from __future__ import annotations

import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CONNECT_SECONDS = 120.0
"""How long a rank waits for the others to start."""


class RankLostError(Exception):
    """Another rank of the training has ended, for a reason that it tells itself."""


class Ranks(ABC):
    """All ranks as one of them sees them; they call the same methods in the same order."""

    rank: int
    size: int

    @abstractmethod
    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, unless that has been done."""

    @abstractmethod
    def mean(self, values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        """The mean over the ranks, the same bits on each."""


class DeviceRanks(Ranks):
    """One rank for each device, connected by torch.distributed, which averages the gradients."""

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.size = fabric.global_rank, fabric.world_size
        self._fabric = fabric

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Nothing: the backward pass has averaged them."""

    def mean(self, values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        """The mean over the devices."""
        if self.size == 1:
            return values
        mean = self._fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean


class SharedMemoryRanks(Ranks):
    """Ranks on one processor, which exchange vectors through memory and signals through sockets.

    On two threads, half a batch in each of two processes is computed sooner than the batch in one,
    whose threads wait for each other in every operation; beside other busy processes by far.

    Args:
        folder: an empty one, the same for all ranks.
    """

    def __init__(self, folder: Path, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._folder = folder
        self._stack = ExitStack()
        self._peers: list[socket.socket] = []
        self._exchanges: dict[str, int] = {}
        self._memory: dict[str, Tensor] = {}

    def __enter__(self) -> SharedMemoryRanks:
        """Connect rank 0 with each of the others."""
        if sys.platform == "win32":
            raise NotImplementedError("Windows has no sockets of Unix")
        path = self._folder / "ranks"
        if self.rank:
            self._peers = [self._stack.enter_context(_connect(path))]
            return self
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(CONNECT_SECONDS)
            bound = path.with_name("binding")
            listener.bind(str(bound))
            listener.listen(self.size)
            bound.rename(path)
            for _ in range(1, self.size):
                peer, _ = listener.accept()
                peer.settimeout(None)
                self._peers.append(self._stack.enter_context(peer))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of vectors of parameters."""
        for index, parameter in enumerate(parameters):
            assert parameter.grad is not None
            parameter.grad.copy_(self._mean(f"gradient-{index}", parameter.grad))

    def mean(self, values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        """The mean over the ranks."""
        return self._mean(f"values-{len(values)}", values)

    def _mean(self, name: str, vector: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
        # Two places take turns: a rank writes to one while others may still read the last one.
        turn = self._exchanges[name] = 1 - self._exchanges.get(name, 1)
        vectors = self._vectors(f"{name}-{turn}", vector)
        vectors[self.rank].copy_(vector)
        self._wait_for_all()
        return vectors.mean(0)

    def _vectors(self, name: str, like: Tensor) -> Float[Tensor, "rank value"]:
        if name not in self._memory:
            path, count = str(self._folder / name), self.size * len(like)
            shared = torch.from_file(path, shared=True, size=count, dtype=like.dtype)
            self._memory[name] = shared.view(self.size, len(like))
        return self._memory[name]

    def _wait_for_all(self) -> None:
        """Return when every rank has called this; RankLostError if one has ended."""
        try:
            if self.rank:
                self._peers[0].sendall(b".")
            if not all(peer.recv(1) for peer in self._peers):
                raise RankLostError
            if not self.rank:
                for peer in self._peers:
                    peer.sendall(b".")
        except ConnectionError as error:
            raise RankLostError from error


def _connect(path: Path) -> socket.socket:
    """A connection to rank 0, once that listens at a path."""
    if sys.platform == "win32":
        raise NotImplementedError("Windows has no sockets of Unix")
    deadline = time.monotonic() + CONNECT_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise RankLostError
        time.sleep(0.01)
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    return peer
