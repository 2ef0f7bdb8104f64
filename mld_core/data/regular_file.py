"""Reading of regular files alone: a pipe or a device may have no end, or never give a byte."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def stat_regular_file(path: Path) -> os.stat_result:
    """The status of a regular file, or of the one that a link leads to.

    OSError if there is none, or if it is a folder, a pipe, a socket or a device.
    """
    status = path.stat()
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        message = f"it is {_KINDS.get(kind, 'something else')}, not a regular file"
        raise OSError(errno.EINVAL, message, str(path))
    return status


def read_regular_file(path: Path, max_bytes: int | None = None) -> bytes:
    """The bytes of a regular file. OSError if it is none, cannot be read or has more bytes."""
    size = stat_regular_file(path).st_size
    if max_bytes is not None and size > max_bytes:
        message = f"it has {size:,} bytes, and at most {max_bytes:,} are read"
        raise OSError(errno.EFBIG, message, str(path))
    return path.read_bytes()
