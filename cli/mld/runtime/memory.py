"""The memory that this process may still ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mld.runtime.processor import cgroup_files

if TYPE_CHECKING:
    import torch

_MEMORY = Path("/proc/meminfo")
_PROCESS = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")


def available_memory() -> int | None:
    """Bytes free in the machine, in this process's cgroups and below its limit; None if unknown."""
    return min([*_machine(), *_cgroups(), *_process_limit()], default=None)


def private_memory() -> int:
    """Bytes of this process in memory that are not those of mapped files."""
    if not _STATUS.is_file():  # not Linux
        import psutil

        return int(psutil.Process().memory_info().rss)
    fields = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024


def free_gpu_memory(device: torch.device) -> int:
    """Bytes free on a GPU; 0 on a device of another kind, whose memory is that of the machine."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def _machine() -> Iterator[int]:
    if _MEMORY.is_file():  # Linux
        fields = dict(line.split(":") for line in _MEMORY.read_text(encoding="utf-8").splitlines())
        if "MemAvailable" in fields:
            yield int(fields["MemAvailable"].split()[0]) * 1024
    else:
        import psutil

        yield int(psutil.virtual_memory().available)


def _cgroups() -> Iterator[int]:
    for limit, used, statistics in cgroup_files("memory.max", "memory.current", "memory.stat"):
        if limit != "max":
            # Cached files count as used, but give way.
            cached = next(line for line in statistics.splitlines() if line.startswith("file "))
            yield max(0, int(limit) - int(used) + int(cached.split()[1]))


def _process_limit() -> Iterator[int]:
    """What `ulimit -v` leaves of the address space."""
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and _PROCESS.is_file():
        pages = int(_PROCESS.read_text(encoding="utf-8").split()[0])
        yield max(0, limit - pages * resource.getpagesize())
