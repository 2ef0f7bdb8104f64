"""What the spec's `compute` comes to on this machine: device, precision and threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from mld_core.errors import SpecError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class ComputeSpec(Protocol):
    """What the spec says; "auto" leaves the choice to `resolve`."""

    @property
    def accelerator(self) -> str:
        """A name of Lightning Fabric's, or "auto"."""

    @property
    def devices(self) -> int | Literal["auto"]:
        """How many devices train together; on a CPU, how many processes."""

    @property
    def precision(self) -> Precision | Literal["auto"]:
        """The precision of training; all else is float32."""

    @property
    def threads(self) -> int | Literal["auto"]:
        """How many threads torch may use, over all processes."""


@dataclass(frozen=True)
class Compute:
    """What this run computes with; precision and threads decide the last bits of its weights."""

    accelerator: str
    devices: int
    precision: Precision
    threads: int


def resolve(spec: ComputeSpec) -> Compute:
    """The spec's wishes with every "auto" decided. SpecError if this machine cannot grant one."""
    accelerator = _accelerator(spec.accelerator)
    devices = _devices(spec.devices, accelerator)
    precision: Any = spec.precision
    if precision == "auto":
        precision = "bf16-mixed" if _has_bfloat16(accelerator) else "32-true"
    if precision == "16-mixed" and accelerator == "cpu":
        raise SpecError("compute.precision: 16-mixed needs a GPU; on a CPU, write bf16-mixed")
    threads = torch.get_num_threads() if spec.threads == "auto" else spec.threads
    return Compute(accelerator, devices, precision, threads)


@contextmanager
def using(compute: Compute) -> Iterator[None]:
    """Let torch use as many threads as this run may, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(compute.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _accelerator(wanted: str) -> str:
    present = torch.accelerator.current_accelerator(check_available=True)
    # Lightning Fabric knows these two; a processor's own kind of GPU beyond them stays unused.
    gpu = present.type if present is not None and present.type in ("cuda", "mps") else None
    if wanted == "auto":
        return gpu or "cpu"
    if wanted == "cpu" or wanted == gpu:
        return wanted
    if wanted == "gpu" and gpu is not None:
        return gpu
    have = "cpu" if gpu is None else f"cpu, {gpu}"
    raise SpecError(f"compute.accelerator: {wanted!r} is not to be had here; there is: {have}")


def _devices(wanted: int | Literal["auto"], accelerator: str) -> int:
    if accelerator == "cpu":
        return 1 if wanted == "auto" else wanted
    present = torch.accelerator.device_count()
    if wanted == "auto":
        return present
    if wanted > present:
        raise SpecError(f"compute.devices: {wanted} wanted, and {present} here")
    return wanted


def _has_bfloat16(accelerator: str) -> bool:
    """Whether the hardware itself multiplies bfloat16, so that it is faster and not slower."""
    if accelerator != "cpu":
        query = getattr(torch.get_device_module(accelerator), "is_bf16_supported", None)
        return query is not None and query(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # torch below 2.11 has only these
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
