"""Stands in for the commands of Slurm that submitit uses: jobs are processes of this machine.

Its first argument is the name of Slurm's command. Jobs are folders beside it, with their
script, their state and, while they run, their process group. While there is a file "full", they
stay in the queue.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

JOBS = Path(__file__).parent / "jobs"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
KILL_WAIT_SECONDS = 5.0
"""Between SIGTERM and SIGKILL of a job that is cancelled."""


def submit(script: str) -> None:
    """`sbatch SCRIPT`."""
    JOBS.mkdir(exist_ok=True)
    number = str(len(list(JOBS.iterdir())) + 1)
    (JOBS / number).mkdir()
    (JOBS / number / "script").write_text(Path(script).read_text())
    start(number)
    print(f"Submitted batch job {number}")


def start(number: str) -> None:
    """Let a process of its own run a job."""
    set_state(number, "PENDING")
    subprocess.Popen(
        [sys.executable, "-IS", __file__, "job", number],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def job(number: str) -> None:
    """Run a job as soon as there is a place."""
    while (JOBS.parent / "full").exists():
        time.sleep(0.05)
    if state(number) != "PENDING":
        return
    set_state(number, "RUNNING")
    starts = JOBS / number / "starts"
    starts.write_text(str(int(starts.read_text()) + 1 if starts.exists() else 1))
    script = (JOBS / number / "script").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, re.MULTILINE))
    nodes, tasks = int(options["nodes"]), int(options["ntasks-per-node"])
    with open(options["output"], "ab") as output:
        process = subprocess.Popen(
            ["bash", str(JOBS / number / "script")],
            env={
                **os.environ,
                "SLURM_JOB_ID": number,
                "SLURM_JOB_NUM_NODES": str(nodes),
                "SLURM_NTASKS": str(nodes * tasks),
                "SLURM_NTASKS_PER_NODE": str(tasks),
                "SLURM_NODELIST": "127.0.0.1",
            },
            start_new_session=True,
            stdout=output,
            stderr=output,
        )
        (JOBS / number / "group").write_text(str(process.pid))
        code = process.wait()
    if state(number) == "RUNNING":
        set_state(number, "FAILED" if code else "COMPLETED")


def run(*words: str) -> None:
    """`srun --unbuffered [--OPTION VALUE]... COMMAND`, in all tasks of the job."""
    assert words[0] == "--unbuffered"
    words = words[1:]
    while words[0].startswith("--"):
        words = words[2:]
    count, per_node = (int(os.environ[f"SLURM_NTASKS{each}"]) for each in ("", "_PER_NODE"))
    tasks = [
        subprocess.Popen(
            words,
            env={
                **os.environ,
                "SLURM_PROCID": str(task),
                "SLURM_LOCALID": str(task % per_node),
                "SLURM_NODEID": str(task // per_node),
            },
        )
        for task in range(count)
    ]
    numbers = " ".join(str(task.pid) for task in tasks)
    (JOBS / os.environ["SLURM_JOB_ID"] / "tasks").write_text(numbers)
    sys.exit(max(task.wait() for task in tasks))


def account(*words: str) -> None:
    """`sacct -o JobID,State,NodeList --parsable2 -j JOB...`."""
    print("JobID|State|NodeList")
    for number in words[words.index("--parsable2") + 1 :]:
        if number != "-j" and (JOBS / number).is_dir():
            print(f"{number}|{state(number)}|127.0.0.1")


def cancel(number: str, *words: str) -> None:
    """`scancel JOB`, or `scancel JOB --signal NAME` for its tasks alone."""
    if words:
        for task in (JOBS / number / "tasks").read_text().split():
            os.kill(int(task), signal.Signals[f"SIG{words[1]}"])
    elif state(number) not in ENDED:
        set_state(number, "CANCELLED")
        stop(number)


def control(action: str, number: str) -> None:
    """`scontrol requeue JOB`."""
    assert action == "requeue"
    set_state(number, "REQUEUED")
    # The process that calls this belongs to the job.
    if os.fork() == 0:
        os.setsid()
        stop(number)
        start(number)


def stop(number: str) -> None:
    """SIGTERM, and later SIGKILL, for all processes of a job."""
    kill(number, signal.SIGTERM)
    end = time.monotonic() + KILL_WAIT_SECONDS
    while time.monotonic() < end and kill(number, 0):
        time.sleep(0.05)
    kill(number, signal.SIGKILL)


def kill(number: str, which: signal.Signals | int) -> bool:
    """Signal a job's processes; False if there are none."""
    try:
        os.killpg(int((JOBS / number / "group").read_text()), which)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def state(number: str) -> str:
    """The state of a job."""
    return (JOBS / number / "state").read_text()


def set_state(number: str, name: str) -> None:
    """Replace the state of a job."""
    partial = JOBS / number / f"state.{os.getpid()}"
    partial.write_text(name)
    partial.replace(JOBS / number / "state")


COMMANDS = {
    "sbatch": submit,
    "srun": run,
    "sacct": account,
    "scancel": cancel,
    "scontrol": control,
}

if __name__ == "__main__":
    if sys.argv[1] == "job":
        job(sys.argv[2])
    else:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
