"""Processes that a launcher has started; run as a program, this file is a launcher of two."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mld.runtime import nodes
from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.nodes import Followers, check_processes, process_rank, run_on_all
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core.errors import DataError, MLDError, OutputError, RunDirError, SpecError

SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_JOB_ID": "7",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
}


def four_devices(nodes: int) -> Compute:
    return Compute("cpu", 4, "32-true", 1, nodes=nodes)


@pytest.mark.parametrize(
    ("compute", "processes", "message"),
    [
        (four_devices(2), 1, r"compute\.nodes: 2 x 2 devices need .* the only one.* torchrun"),
        (four_devices(2), 2, r"is 2 x 2 = 4, but the launcher has started 2 processes"),
        (four_devices(1), 8, r"is 1 x 4 = 4, but the launcher has started 8 processes"),
    ],
)
def test_a_process_for_each_device(compute: Compute, processes: int, message: str) -> None:
    followers = Followers([None] * (processes - 1)) if processes > 1 else None
    with pytest.raises(SpecError, match=message):
        check_processes(compute, followers)


def test_enough_processes() -> None:
    check_processes(four_devices(1), None)  # a training starts them
    check_processes(four_devices(2), Followers([None] * 3))


@pytest.mark.parametrize("variables", [SLURM, TORCHRUN])
def test_the_rank_of_a_process(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert process_rank() == 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert process_rank() == 1


def test_a_run_without_a_launcher_does_not_import_what_reads_launchers() -> None:
    program = (
        "import sys; from mld.runtime import nodes; nodes.run_on_all(lambda _: print(*sys.modules))"
    )
    alone = {name: value for name, value in os.environ.items() if name not in {**SLURM, **TORCHRUN}}
    done = subprocess.run(
        [sys.executable, "-c", program], env=alone, capture_output=True, text=True, check=True
    )
    assert "mld.runtime.nodes" in done.stdout
    assert "lightning_fabric" not in done.stdout


def test_a_single_task_of_slurm_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    given: list[Followers | None] = []
    run_on_all(given.append)
    assert given == [None]


def test_tasks_of_slurm_without_their_number_on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(SpecError, match=r"compute\.nodes: .*--ntasks-per-node"):
        process_rank()


def test_a_process_to_which_a_context_is_sent_has_no_followers(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    context = RunContext(RunDir(tmp_path), store, four_devices(2), 0, followers=Followers([]))
    sent = pickle.loads(pickle.dumps(context))
    assert sent.followers is None
    assert sent.compute == context.compute


def both_add(number: int) -> float:
    """The sum over both processes."""
    import torch

    total = torch.tensor(float(number + process_rank()))
    torch.distributed.all_reduce(total)
    return float(total)


def only(rank: int, act: Callable[[], object]) -> None:
    """Have one of the processes do something, while the other waits for it."""
    if process_rank() == rank:
        act()
    both_add(0)


def fail() -> None:
    raise OutputError("the disk is full")


def see_other_files() -> None:
    raise RunDirError("another folder")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(10)


def calls(*work: object) -> Callable[[Followers | None], None]:
    def lead(followers: Followers | None) -> None:
        assert followers is not None
        assert followers.processes == 2
        followers.call(*work)

    return lead


def adds(followers: Followers | None) -> None:
    assert followers is not None
    assert followers.call(both_add, 1) == 3
    time.sleep(0.2)
    assert followers.call(both_add, 10) == 21


def raises(error: BaseException) -> Callable[[Followers | None], None]:
    def lead(followers: Followers | None) -> None:
        raise error

    return lead


def dies(followers: Followers | None) -> None:
    time.sleep(0.2)
    die()


DONE, KILLED = "done", "killed"
LEADER, FOLLOWER = "the first process, on 127.0.0.1,", f"process 1 on {os.uname().nodename}"
GONE = "has ended without a message, or cannot be reached; re-run the same command to resume"
SCENARIOS: dict[str, tuple[Callable[[Followers | None], None], str, str]] = {
    "both": (adds, DONE, DONE),
    "an error of the leader": (
        raises(DataError("row 3")),
        "DataError 5 row 3",
        f"NodeError 5 {LEADER} has failed: row 3",
    ),
    "an internal error of the leader": (
        raises(KeyError("x")),
        "KeyError 'x'",
        f"NodeError 1 {LEADER} has failed: KeyError: 'x'",
    ),
    "an interrupted leader": (
        raises(KeyboardInterrupt()),
        "KeyboardInterrupt ",
        "KeyboardInterrupt ",
    ),
    "a leader that fails in the middle": (
        calls(only, 0, fail),
        "OutputError 6 the disk is full",
        f"NodeError 6 {LEADER} has failed: the disk is full",
    ),
    "another process that fails in the middle": (
        calls(only, 1, see_other_files),
        f"NodeError 6 {FOLLOWER} has failed: another folder",
        "RunDirError 6 another folder",
    ),
    "another process that is killed": (
        calls(only, 1, die),
        f"NodeError 9 {FOLLOWER} {GONE}",
        KILLED,
    ),
    "a leader that is killed": (dies, KILLED, f"NodeError 9 {LEADER} {GONE}"),
    "a leader that is killed in the middle": (
        calls(only, 0, die),
        KILLED,
        f"NodeError 9 {LEADER} {GONE}",
    ),
    "work that cannot be sent": (
        calls(lambda: None),
        "PluginError 4 a training cannot be sent to other nodes: ",
        f"NodeError 4 {LEADER} has failed: a training cannot be sent to other nodes: ",
    ),
}


@pytest.mark.slow
def test_all_processes_end_as_one() -> None:
    command = [sys.executable, __file__]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert process.returncode == 0, process.stderr
    ends = json.loads(process.stdout)
    assert ends["hangs"][0].startswith("NodeError 9 ")
    for variables in ("torchrun", "slurm"):
        for name, (_, leader, follower) in SCENARIOS.items():
            seen = ends[f"{variables}: {name}"]
            assert seen[0].startswith(leader), (variables, name)
            assert seen[1].startswith(follower), (variables, name)


def launched(
    lead: Callable[[Followers | None], None],
    variables: dict[str, str],
    step_seconds: float = nodes.STEP_SECONDS,
) -> list[str]:
    """How two processes end that a launcher has started with these variables."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    processes, outputs = [], []
    for rank in ("0", "1"):
        output, given = os.pipe()
        if not (process := os.fork()):
            ranks = {"RANK": rank, "SLURM_PROCID": rank, "MASTER_PORT": port}
            os.environ.update({**variables, **ranks})
            nodes.STEP_SECONDS = nodes.REASON_SECONDS = step_seconds
            os.write(given, end_of(lead).encode())
            os._exit(0)
        os.close(given)
        processes.append(process)
        outputs.append(os.fdopen(output))
    ends, deadline = [], time.monotonic() + 60
    for process, output in zip(processes, outputs, strict=True):
        while os.waitpid(process, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                ends.append("hangs")
                break
            time.sleep(0.01)
        else:
            ends.append(output.read() or KILLED)
    return ends


def end_of(lead: Callable[[Followers | None], None]) -> str:
    try:
        run_on_all(lead)
    except MLDError as error:
        return f"{type(error).__name__} {error.exit_code:d} {error}"
    except BaseException as error:
        return f"{type(error).__name__} {error}"
    return DONE


if __name__ == "__main__":
    # Once, before the forks.
    import lightning_fabric.plugins.environments  # noqa: F401
    import torch.distributed  # noqa: F401

    LAUNCHERS = {"torchrun": TORCHRUN, "slurm": SLURM}
    ends = {
        f"{launcher}: {name}": launched(lead, variables)
        for launcher, variables in LAUNCHERS.items()
        for name, (lead, _, _) in SCENARIOS.items()
    }
    ends["hangs"] = launched(calls(only, 1, hang), TORCHRUN, step_seconds=2.0)
    json.dump(ends, sys.stdout)
