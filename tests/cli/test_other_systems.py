"""What Linux has and Windows or macOS lack is done without: each is taken away here in turn."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from mld import app
from mld.bench.executors import visible_gpus
from mld.config.spec import load_spec
from mld.conformance.file_changes import changed_file, linked_copy
from mld.conformance.stand_in_device import STAND_IN, StandInDevice
from mld.data.store_contents import StoredEntry
from mld.evaluation import plugin_metric
from mld.runtime import memory, mld_process, nodes, processor, worker_pool
from mld.runtime.compute import Compute
from mld.storage import files, locks
from mld.training.parallel import shared_compute
from mld_core import Registry, SpecError


def test_without_proc_and_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores and memory are then those that psutil and Python report."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)
    for module, name in (
        (memory, "_MEMORY"),
        (memory, "_STATUS"),
        (processor, "_MEMBERSHIP"),
    ):
        monkeypatch.setattr(module, name, tmp_path / "nowhere")
    assert processor.available_cores() == 7
    virtual_memory = SimpleNamespace(available=12345)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: virtual_memory)
    assert memory.available_memory() == 12345
    assert memory.private_memory() > 1e6


def test_without_file_locks_of_unix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    user, file = {"weights"}, tmp_path / "x"
    file.touch()
    locks.mark_used(file, user)
    assert not locks.is_used(file)


def test_file_that_windows_keeps_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").touch()

    def unlink(path: Path, missing_ok: bool = False) -> None:
        error = PermissionError(13, "in use by another process", str(path))
        error.winerror = 32  # type: ignore[attr-defined, unused-ignore]
        raise error

    monkeypatch.setattr(Path, "unlink", unlink)
    entry = StoredEntry("items", "", [tmp_path / "x"], tmp_path / "x.lock", 0, 0.0)
    assert not entry.delete()


def test_synced_file_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows syncs no other, and opens no folder."""
    modes = []
    open_file = os.open

    def open_on_windows(path: Any, *args: Any, **options: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *args, **options)

    def sync(handle: int) -> None:
        modes.append(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "open", open_on_windows)
    monkeypatch.setattr(os, "fsync", sync)
    files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert modes == [os.O_RDWR]


def test_without_prctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(ctypes, "CDLL")
    mld_process.die_with_parent(parent_pid=-1)


def test_without_unix_sockets_trainings_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Compute("cpu", 1, "32-true", threads=2)
    assert shared_compute(1024, compute, workers=2).processes == 2
    monkeypatch.delattr(socket, "AF_UNIX")
    assert shared_compute(1024, compute, workers=2) == compute


@pytest.mark.parametrize("missing", [{"TCP_KEEPIDLE"}, {*nodes._KEEP_ALIVE}])
def test_without_options_of_connections(monkeypatch: pytest.MonkeyPatch, missing: set[str]) -> None:
    for option in missing:
        monkeypatch.delattr(socket, option, raising=False)
    here, there = socket.socketpair(socket.AF_INET) if os.name == "nt" else tcp_pair()
    with nodes._watched(here) as connection, there:
        there.sendall(b"\0\0\0\1x")
        assert connection.recv_bytes() == b"x"


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = socket.create_connection(listener.getsockname())
        return listener.accept()[0], there


def test_worker_ends_with_a_parent_whose_number_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [True, True, False]
    parent = SimpleNamespace(pid=os.getppid(), is_running=lambda: states.pop(0))
    exits: list[int] = []
    monkeypatch.setattr(worker_pool, "PARENT_SECONDS", 0)
    monkeypatch.setattr(os, "_exit", exits.append)
    worker_pool._end_with_parent(parent)  # type: ignore[arg-type]
    assert (exits, states) == ([1], [])


def test_gpus_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible_gpus(None) == []
    monkeypatch.setattr(sys, "platform", "win32")
    assert visible_gpus(None) == ["0", "1"]


@pytest.mark.parametrize("links", [True, False])
def test_files_are_copied_where_links_are_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "x").write_text("x\n")
    (source / "y").write_text("y\n")

    def symlink_to(path: Path, target: Path) -> None:
        raise OSError(1314, "a required privilege is not held by the client")

    if not links:
        monkeypatch.setattr(Path, "symlink_to", symlink_to)
    copy = linked_copy(source, tmp_path / "copy")
    for name in ("inner/x", "y"):
        before = (source / name).read_text()
        names = {path.relative_to(copy) for path in copy.rglob("*")}
        with changed_file(copy / name, copy):
            assert (copy / name).read_text() == f"{before}\n"
            assert {path.relative_to(copy) for path in copy.rglob("*")} >= names
            assert len([*(copy / name).parent.iterdir()]) == len(
                [*(source / name).parent.iterdir()]
            )
        assert (copy / name).read_text() == (source / name).read_text() == before


def test_letters_that_the_output_lacks_are_written_as_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(app, "app", lambda: print("a → b"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    app.main()
    output.seek(0)
    assert output.read() == "a \\u2192 b\n"


def test_metrics_stay_on_the_processor_beside_a_gpu_of_apple() -> None:
    x, reference = torch.zeros(2, 3), torch.ones(2, 3)
    assert plugin_metric._on_device(torch.device("mps"), x, reference) == (x, reference)
    assert plugin_metric._on_device(STAND_IN, x, reference)[0].device == STAND_IN


def test_logarithms_of_numbers_need_no_double_precision_of_a_gpu() -> None:
    numbers = Registry().modality("number")
    config = numbers.Config(log=True)
    x = torch.tensor([[1.0], [2.0], [40.0]])
    autoencoder = numbers(config, numbers.fit(config, iter([0.5, 1.0, 40.0]))).autoencoder()
    expected = autoencoder.encode(x)
    with StandInDevice(has_double=False):
        with pytest.raises(TypeError, match="no float64"):
            x.to(STAND_IN).double()
        there = autoencoder.to(STAND_IN)
        assert there.encode(x.to(STAND_IN)).tolist() == expected.tolist()


SPEC = """
name: NAME
data: {kind: examples}
modalities:
  A: {kind: text, latent_dim: 4}
  B: {kind: text, latent_dim: 4}
"""


@pytest.fixture
def spec_errors(tmp_path: Path) -> Callable[..., str]:
    """The error of a spec with the experiment's name and those of two modalities; "" if none."""

    def errors(name: str = "x", *names: str) -> str:
        text = SPEC.replace("NAME", name)
        for letter, other in zip("AB", names, strict=False):
            text = text.replace(f"  {letter}:", f"  {other}:")
        (tmp_path / "x.yaml").write_text(text)
        try:
            load_spec(tmp_path / "x.yaml", Registry())
        except SpecError as error:
            return str(error)
        return ""

    return errors


@pytest.mark.parametrize("name", ["con", "AUX", "Com1", "lpt0"])
def test_names_that_windows_reserves_are_errors(spec_errors: Callable[..., str], name: str) -> None:
    message = "must be a name that a file may have on Windows"
    assert f"x.yaml:5: modalities.{name}: {message}, not {name!r}" in spec_errors("x", name)
    assert f"x.yaml:2: name: {message}" in spec_errors(f"{name}.v2")
    assert f"x.yaml:2: name: {message}" in spec_errors("birds.")
    assert spec_errors(f"{name}2x", f"{name}-2", f"{name}_") == ""


def test_names_that_differ_in_case_alone_are_an_error(spec_errors: Callable[..., str]) -> None:
    error = spec_errors("x", "Photo", "photo")
    assert "x.yaml:6: modalities.photo: differs from 'Photo' in case alone" in error
