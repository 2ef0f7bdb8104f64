from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pickle import PicklingError
from threading import Lock
from typing import Any

import cloudpickle
import pytest

from mld.runtime import progress, progress_relay
from mld.runtime.progress import counting, training_progress, with_progress
from mld.runtime.progress_relay import show_relayed_progress
from mld.runtime.worker_pool import WorkerPool, is_interrupted, load_shared

# Workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Secret:
    def __init__(self) -> None:
        self.lock = Lock()


class Lost:
    def __reduce__(self) -> Any:
        return fail, ()


def fail() -> None:
    raise KeyError("lost")


def load(path: Any) -> Any:
    return load_shared(path)


def read_and_train() -> int:
    assert list(with_progress("read", range(3))) == [0, 1, 2]
    with training_progress("train", 2, 20) as show:
        for step in range(3, 21):
            show(step, 0.5, 1.0)
    return os.getpid()


def restart_bytes() -> int:
    """By how much this process may grow before loky restarts it."""
    from loky import process_executor

    return int(process_executor._MAX_MEMORY_LEAK_SIZE)


def wait_for_interrupt() -> str:
    while not is_interrupted():
        time.sleep(0.01)
    return "interrupted"


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a worker sends."""
    sent: list[Any] = []
    monkeypatch.setattr(progress_relay, "_send", sent.append)
    return sent


def test_a_worker_pool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0)
    with WorkerPool(1) as pool:
        assert pool.submit(read_and_train).result() != os.getpid()
        with pytest.raises(PicklingError):
            pool.submit(len, Secret()).result()  # type: ignore[arg-type]
        with pytest.raises(PicklingError, match="TypeError"):
            pool.share(Secret())
        with pytest.raises(PicklingError, match="KeyError: 'lost'"):
            pool.submit(load, pool.share(Lost())).result()
        assert pool.submit(load, pool.share({"a": [1]})).result() == {"a": [1]}
        assert pool.submit(restart_bytes).result() > 2**50
        waiting = pool.submit(wait_for_interrupt)
        assert not pool.is_interrupted()
        pool.interrupt()
        assert waiting.result() == "interrupted"
        assert pool.folder.is_dir()
    assert not pool.folder.exists()
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("read: 3 of 3 rows") for line in lines)
    assert any(line.startswith("train: 20 of 20 steps, loss 0.5") for line in lines)


def test_a_worker_sends_few_states_and_always_the_last(
    reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(progress_relay.time, "monotonic", lambda: now)
    with counting("read", 100, "items") as show:
        for done in range(1, 100):
            show(done)
            now += 0.03
    states = [state and state[0] for _, _, _, state in reports]
    assert states == [*range(1, 100, 4), 99, None]
    assert {(opened, args) for _, opened, args, _ in reports} == {
        (counting, ("read", 100, "items"))
    }


def test_progress_of_several_workers_is_shown_at_once(
    reports: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting("left", 2) as left, counting("right", 2) as right:
        left(1)
        right(1)
        left(2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress_relay, "_send", None)
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0)
    show_relayed_progress(iter([*reports, None]).__next__)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "left: 1 of 2 rows",
        "right: 1 of 2 rows",
        "left: 2 of 2 rows",
    ]
