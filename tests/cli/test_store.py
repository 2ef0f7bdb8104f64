from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from mld.storage.weight_store import WeightStore
from mld.training.modality_networks import train_all
from mld_core.errors import RunDirError

KEY = {"kind": "image", "config": {"size": 16}, "seed": 0}


def test_weights_are_found_under_their_own_key_alone(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    weights = {"weight": torch.randn(3, 2)}
    with store.entry(KEY) as entry:
        assert not entry.found
        with pytest.raises(RunDirError, match="nothing at"):
            entry.read()
        entry.write(weights, {"steps": "10"})
        assert entry.found
    with WeightStore(tmp_path).entry(dict(reversed(KEY.items()))) as entry:
        assert entry.found
        assert torch.equal(entry.read()["weight"], weights["weight"])
    with store.entry({**KEY, "seed": 1}) as entry:
        assert not entry.found


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
            assert not entry.found
        assert not path.exists()
        entry.write({"weight": torch.zeros(1)}, {})
        assert entry.found


def test_the_same_key_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    told = (
        "import sys; from pathlib import Path; from mld.storage.weight_store import Store\n"
        "key = {'a': int(sys.argv[2])}\n"
        "with Store(Path(sys.argv[1])).entry(key) as entry: print(entry.found)"
    )

    def ask(key: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", told, str(tmp_path), str(key)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with WeightStore(tmp_path).entry({"a": 1}) as entry:
        waiting = ask(1)
        assert ask(2).communicate(timeout=60)[0] == "False\n"
        entry.write({"weight": torch.zeros(1)}, {})
    # Only what was written before the lock was given up can have been found.
    assert waiting.communicate(timeout=60)[0] == "True\n"


def test_the_default_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLD_STORE", "~/elsewhere")
    assert WeightStore.default().root == Path(os.path.expanduser("~/elsewhere"))
    monkeypatch.delenv("MLD_STORE")
    assert WeightStore.default().root.name == "mld"


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RunDirError, match=r"cannot be written .* set MLD_STORE"),
        WeightStore(tmp_path / "file").entry(KEY),
    ):
        pass


def test_what_another_run_trains_is_left_for_later(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    taken: list[str] = []

    class Own:
        def __init__(self, name: str) -> None:
            self.job = name

        def are_taken(self, _: object) -> bool:
            return store.is_held({"name": self.job})

        def take(self, _: object) -> None:
            taken.append(self.job)
            if self.job == "c":
                others.close()

    others = ExitStack()
    others.enter_context(store.entry({"name": "a"}))
    others.enter_context(store.entry({"name": "b"}))
    train_all([Own("a"), Own("b"), Own("c"), Own("d")], context=None)  # type: ignore[list-item, arg-type]
    assert taken == ["c", "a", "b", "d"]
    assert not store.is_held({"name": "never seen"})
