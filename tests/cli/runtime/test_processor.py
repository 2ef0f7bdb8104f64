"""The cores that a process may use, by its affinity mask and its cgroups' quotas."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from mld.config.sections import ComputeSpec
from mld.runtime import processor
from mld.runtime.compute import resolve


@pytest.mark.parametrize(
    ("membership", "quotas", "expected"),
    [
        ("0::/\n", {}, 6),
        ("0::/\n", {"": "max 100000"}, 6),
        ("0::/\n", {"": "350000 100000"}, 3),
        ("0::/\n", {"": "50000 100000"}, 1),
        ("0::/\n", {"": "1600000 100000"}, 6),
        ("0::/a/b\n", {"a/b": "max 100000", "a": "200000 100000"}, 2),
        ("0::/a/b\n", {"a/b": "400000 100000", "c": "100000 100000"}, 4),
        ("5:cpu:/a\n0::/\n", {"a": "100000 100000"}, 6),
        (None, {}, 6),
    ],
)
def test_available_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    membership: str | None,
    quotas: dict[str, str],
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(2, 8)}, raising=False)
    monkeypatch.setattr(processor, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(processor, "_CGROUPS", tmp_path / "cgroups")
    if membership is not None:
        (tmp_path / "membership").write_text(membership)
    for cgroup, quota in quotas.items():
        (tmp_path / "cgroups" / cgroup).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroups" / cgroup / "cpu.max").write_text(f"{quota}\n")
    assert processor.available_cores() == expected


def test_automatic_threads_stay_within_the_available_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 6)
    for available, threads in ((2, 2), (8, 6)):
        monkeypatch.setattr("mld.runtime.compute.available_cores", lambda n=available: n)
        assert resolve(ComputeSpec(accelerator="cpu")).threads == threads
    assert resolve(ComputeSpec(accelerator="cpu", threads=9)).threads == 9


def test_the_processor_has_a_name() -> None:
    assert processor.processor_name() not in ("", platform.python_implementation())
    if Path("/proc/cpuinfo").is_file() and "model name" in Path("/proc/cpuinfo").read_text():
        assert processor.processor_name() in Path("/proc/cpuinfo").read_text()
