"""`mld` as a process of its own, which ends with the one that has started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from mld.storage.files import writing

BOOTSTRAP = (
    "from mld.runtime.mld_process import die_with_parent; die_with_parent({}); "
    "from mld.app import main; main()"
)
"""Python code of the process, to be formatted with the process id of its parent."""
STOP_TIMEOUT_SECONDS = 60.0
"""How long a stopped run may take to save its state and exit."""
_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal a process receives when its parent dies."""


class Job(ABC):
    """A run that has been started."""

    @abstractmethod
    def poll(self) -> int | None:
        """The exit code; None while the run is in progress."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the run to exit; where possible it saves its state first."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the run has exited; kill it after STOP_TIMEOUT_SECONDS."""


def start_mld(
    words: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start `mld WORDS` with this Python interpreter; it dies with this process.

    Args:
        log: what it prints is appended to this file. OutputError if that cannot be written.
        environment: variables set beside those of this process.
    """
    with open_log(log) as output:
        return subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP.format(os.getpid()), *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            # Ctrl-C in a terminal then reaches only this process, which stops the other itself.
            start_new_session=True,
        )


def open_log(log: Path) -> TextIO:
    """A log, open for appending; OutputError if it cannot be written."""
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("a", encoding="utf-8")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent dies in whatever way (Linux only).

    A run that outlived its suite would hold the lock of its run directory. On other systems it
    does, and the next suite waits for it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call to prctl.
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
