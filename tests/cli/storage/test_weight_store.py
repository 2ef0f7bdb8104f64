from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from mld.commands.common import weight_store
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training import modality_networks
from mld.training.train import TrainedWeights
from mld_core.errors import RunDirError

KEY = {"kind": "image", "config": {"size": 16}, "seed": 0}


def test_weights_are_stored_under_their_key(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    weights = {"weight": torch.randn(3, 2)}
    with store.entry(KEY) as entry:
        assert entry.read() is None
        entry.write(weights, {"step": 3})
        assert entry.read() is not None
    with WeightStore(tmp_path).entry(dict(reversed(KEY.items()))) as entry:
        stored = entry.read()
        assert stored is not None
        assert torch.equal(stored[0]["weight"], weights["weight"])
        assert stored[1] == {"step": 3}
    with store.entry({**KEY, "seed": 1}) as entry:
        assert entry.read() is None


def test_a_corrupt_entry_is_removed_with_a_warning(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    with store.entry(KEY) as entry:
        entry.write({"weight": torch.randn(3, 2)}, {})
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with store.entry(KEY) as entry:
        with pytest.warns(UserWarning, match=r"is corrupt.*removed from the store"):
            assert entry.read() is None
        assert not path.exists()
        entry.write({"weight": torch.zeros(1)}, {})
        assert entry.read() is not None


def test_an_entry_is_locked_by_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mld.storage.weight_store import WeightStore\n"
        "key = {'a': int(sys.argv[2])}\n"
        "with WeightStore(Path(sys.argv[1])).entry(key) as entry: print(entry.read() is not None)"
    )

    def start(key: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(tmp_path), str(key)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with WeightStore(tmp_path).entry({"a": 1}) as entry:
        waiting = start(1)
        assert start(2).communicate(timeout=60)[0] == "False\n"
        entry.write({"weight": torch.zeros(1)}, {})
    # Weights that were written before the lock was released are seen by the next holder.
    assert waiting.communicate(timeout=60)[0] == "True\n"


def test_commands_use_the_store_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLD_STORE", "~/elsewhere")
    assert weight_store().root == Path("~/elsewhere").expanduser()
    monkeypatch.delenv("MLD_STORE")
    assert weight_store() == WeightStore.in_user_cache()


def test_the_default_store_is_in_the_user_cache() -> None:
    code = (
        "from mld.storage.weight_store import WeightStore as S; print(S.in_user_cache().root.name)"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "mld\n"


def test_an_unwritable_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunDirError, match=r"cannot be written .* set MLD_STORE"),
        WeightStore(tmp_path / "file").entry(KEY),
    ):
        pass


def test_jobs_that_another_run_trains_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WeightStore(tmp_path)
    trained: list[str] = []

    class Job:
        objective = torch.nn.Identity()

        def __init__(self, name: str) -> None:
            self.name = name

    def train_cached(job: Job, context: object, train: object) -> TrainedWeights:
        trained.append(job.name)
        if job.name == "c":
            other_runs.close()
        return TrainedWeights({}, None)

    monkeypatch.setattr(modality_networks, "train_cached", train_cached)
    monkeypatch.setattr(
        modality_networks, "is_in_progress", lambda job, _: store.is_locked({"name": job.name})
    )
    other_runs = ExitStack()
    other_runs.enter_context(store.entry({"name": "a"}))
    other_runs.enter_context(store.entry({"name": "b"}))
    compute = Compute("cpu", 1, "32-true", 1)
    context = RunContext(RunDir(tmp_path), store, compute, seed=0)
    modality_networks.train_all([Job(name) for name in "abcd"], context, None)  # type: ignore[misc]
    assert trained == ["c", "a", "b", "d"]
    assert not store.is_locked({"name": "never seen"})
