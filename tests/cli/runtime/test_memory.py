"""The memory that a process may still ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mld.runtime import memory, processor

resource = pytest.importorskip("resource", reason="Windows has no limits of a process")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available, of a process in the cgroup a/b that uses 1 GiB."""
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "statm")
    monkeypatch.setattr(processor, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(processor, "_CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    (tmp_path / "meminfo").write_text("MemTotal: 99999999 kB\nMemAvailable: 8388608 kB\n")
    (tmp_path / "membership").write_text("0::/a/b\n")
    (tmp_path / "statm").write_text(f"{2**30 // resource.getpagesize()} 1 1 1 0 1 0\n")
    return tmp_path


def limit_cgroup(machine: Path, name: str, limit: str) -> None:
    folder = machine / "cgroups" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{2**30}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile {2**29}\nfile_mapped 7\n")


def test_a_machine_without_limits(machine: Path) -> None:
    assert memory.available_memory() == 2**33


def test_cached_files_of_a_cgroup_give_way(machine: Path) -> None:
    limit_cgroup(machine, "a/b", "max")
    assert memory.available_memory() == 2**33
    limit_cgroup(machine, "a", str(2**32))
    assert memory.available_memory() == 2**32 - 2**30 + 2**29


def test_a_limited_address_space(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**32, 2**33))
    assert memory.available_memory() == 2**32 - 2**30


def test_this_machine_has_memory() -> None:
    available = memory.available_memory()
    assert available is None or available > 0
