"""The processor: its name, and the cores that this process may use."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def processor_name() -> str:
    """The model of the processor, or its architecture where the system does not name it."""
    file = Path("/proc/cpuinfo")
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Cores in this process's affinity mask, at most as many as its cgroup has time for."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *_cgroup_quotas()]))


def idle_cores() -> float:
    """Cores of the machine that no process uses while this one sleeps for a fifth of a second."""
    import psutil

    return (1 - psutil.cpu_percent(interval=0.2) / 100) * (psutil.cpu_count() or 1)


def seconds_since_start() -> float:
    """How long ago this process started."""
    import psutil

    return max(0.0, time.time() - psutil.Process().create_time())


def _cgroup_quotas() -> Iterator[int]:
    """Whole cores whose time this process's cgroup and those around it may use."""
    for content in cgroup_files("cpu.max"):
        quota, period = content[0].split()
        if quota != "max":
            yield int(quota) // int(period)


def cgroup_files(*names: str) -> Iterator[list[str]]:
    """The contents of these files, of this process's cgroup and those around it (version 2)."""
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for member in (line.removeprefix("0::/") for line in lines if line.startswith("0::/")):
        for cgroup in (PurePosixPath(member), *PurePosixPath(member).parents):
            try:
                yield [(_CGROUPS / cgroup / name).read_text("utf-8").strip() for name in names]
            except OSError:  # the root has none outside containers
                continue
