"""The spec's `compute` section resolved on this machine: device, precision and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from mld.config.sections import ComputeSpec
from mld.runtime.processor import available_cores
from mld_core.errors import SpecError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """What a run computes with. All but the first affect the last bits of its weights.

    Args:
        devices: of all nodes together; the processes of a training, one each, share the threads.
        threads: of each other process.
        processes: that share the batches of a training on a processor.
        nodes: machines, each with an equal number of the devices.
        compile: whether what is trained is compiled.
    """

    accelerator: str
    devices: int
    precision: Precision
    threads: int
    processes: int = 1
    nodes: int = 1
    compile: bool = False

    def on_one_device(self) -> Compute:
        """The same without other devices."""
        return replace(self, devices=1, nodes=1)

    @property
    def device(self) -> torch.device:
        """Where networks are used; a training on several devices has one in each process."""
        return torch.device(self.accelerator)

    @property
    def optional_settings(self) -> dict[str, bool]:
        """What affects results and enters fingerprints only if it is used."""
        return {"compile": True} if self.compile else {}


def resolve(spec: ComputeSpec) -> Compute:
    """The section with every "auto" decided. SpecError if something is unavailable here."""
    accelerator = _accelerator(spec.accelerator)
    devices = spec.nodes * _devices(spec.devices, accelerator)
    precision: Any = spec.precision
    if precision == "auto":
        precision = "bf16-mixed" if _has_bfloat16(accelerator) else "32-true"
    if precision == "16-mixed" and accelerator == "cpu":
        raise SpecError("compute.precision: 16-mixed needs a GPU; on a CPU, write bf16-mixed")
    # torch respects the affinity mask, but not the quota of a container.
    automatic = min(torch.get_num_threads(), available_cores())
    threads = automatic if spec.threads == "auto" else spec.threads
    return Compute(accelerator, devices, precision, threads, nodes=spec.nodes, compile=spec.compile)


def place(network: Network, device: torch.device) -> Network:
    """A network moved to a device, where `device_of` finds it.

    One with numbers in double precision, which Apple's GPUs lack, stays on the processor there.
    """
    if device.type == "mps" and any(x.dtype == torch.float64 for x in _tensors(network)):
        return network
    return network.to(device)


def device_of(network: nn.Module) -> torch.device:
    """Where a network is, and takes its input; one without any tensor is on the processor."""
    return next((x.device for x in _tensors(network)), torch.device("cpu"))


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    return chain(network.parameters(), network.buffers())


def torch_threads(compute: Compute) -> AbstractContextManager[None]:
    """Limit torch to the run's threads until the block ends."""
    return limited_threads(compute.threads)


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit torch to so many threads until the block, or the decorated function, ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _accelerator(requested: str) -> str:
    present = torch.accelerator.current_accelerator(check_available=True)
    # The GPUs that Lightning Fabric supports; others stay unused.
    gpu = present.type if present is not None and present.type in ("cuda", "mps") else None
    if requested == "auto":
        return gpu or "cpu"
    if requested in ("cpu", gpu):
        return requested
    if requested == "gpu" and gpu is not None:
        return gpu
    available = "cpu" if gpu is None else f"cpu, {gpu}"
    raise SpecError(
        f"compute.accelerator: {requested!r} is not available here (available: {available})"
    )


def _devices(requested: int | Literal["auto"], accelerator: str) -> int:
    if accelerator == "cpu":
        return 1 if requested == "auto" else requested
    available = torch.accelerator.device_count()
    if requested == "auto":
        return available
    if requested > available:
        raise SpecError(f"compute.devices: {requested} requested, but only {available} available")
    return requested


def _has_bfloat16(accelerator: str) -> bool:
    """Whether the hardware multiplies bfloat16 natively: emulated, it is slower than float32."""
    if accelerator != "cpu":
        query = getattr(torch.get_device_module(accelerator), "is_bf16_supported", None)
        return query is not None and query(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # torch below 2.11 has only these
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
