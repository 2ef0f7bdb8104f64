"""Locks that keep every other process out of a folder."""

from __future__ import annotations

import json
import os
import platform
import secrets
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mld.storage.files import writing
from mld_core.errors import RunDirError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes; it is created if there is none.

    RunDirError with the holder if it is locked, OutputError if it cannot be written.
    """
    from filelock import FileLock, Timeout

    holder = folder / ".lock.json"
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout:
        raise RunDirError(
            f"{folder} is in use by {_describe_holder(holder)}: wait until it ends, or choose "
            "another folder with --out"
        ) from None
    record = {"pid": os.getpid(), "host": platform.node(), "token": secrets.token_hex()}
    with lock:
        with writing(folder):
            holder.write_text(json.dumps(record), encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink(missing_ok=True)


def lock_record(folder: Path) -> str:
    """What the process that locks a folder has written there; "" if nothing is seen of one."""
    try:
        return (folder / ".lock.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def lock_holder(folder: Path, timeout: float = 0) -> str:
    """Which process holds a folder's lock; "" if none does, or if it lets go in `timeout` s."""
    from filelock import FileLock, Timeout

    if not (folder / ".lock").exists():
        return ""
    try:
        with FileLock(folder / ".lock").acquire(timeout=timeout):
            return ""
    except Timeout:
        return _describe_holder(folder / ".lock.json")


def mark_used(path: Path, user: object) -> None:
    """Count a file as used as long as an object lives; nothing if it cannot be opened."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        weakref.finalize(user, os.close, handle)
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_used(path: Path) -> bool:
    """Whether a process has marked a file as used; False on Windows, which does not delete it."""
    if sys.platform == "win32":
        return False
    import fcntl

    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _describe_holder(holder: Path) -> str:
    try:
        process = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {process['pid']} on {process['host']}"
    except (OSError, ValueError):
        return "another process"
