"""A run of a suite dies with it: one that lived on would hold its folder's lock."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_OF_PARENTS_DEATH = 1
"""PR_SET_PDEATHSIG of Linux's prctl. Elsewhere the next suite waits until the run has ended."""


def leash(parent: int) -> None:
    """End this process when its parent, of this process id, ends in whatever way."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_OF_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
