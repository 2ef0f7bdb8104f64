"""What libraries say while a datum is read: Python warnings, and what C code writes to stderr."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

STDERR = 2
MAX_CHARACTERS = 200
"""Length at which text from stderr is cut."""


@contextmanager
def recorded_messages() -> Iterator[list[str]]:
    """A list that in the end holds each warning and the text on stderr, instead of printing them.

    Stderr is that of the whole process: use it in one thread at a time.
    """
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        for category in (UserWarning, RuntimeWarning):
            warnings.simplefilter("always", category)
        with _captured_stderr() as texts:
            yield messages
    messages += dict.fromkeys(str(warning.message).strip() for warning in caught)
    messages += texts


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """A list that in the end holds what was written to the file descriptor of stderr, on a line."""
    texts: list[str] = []
    try:
        saved = os.dup(STDERR)
    except OSError:  # stderr is closed
        yield texts
        return
    capture = _capture_file(os.getpid())
    os.dup2(capture, STDERR)
    try:
        yield texts
    finally:
        os.dup2(saved, STDERR)
        os.close(saved)
        if size := os.fstat(capture).st_size:
            os.lseek(capture, 0, os.SEEK_SET)
            text = os.read(capture, size).decode(errors="replace")
            line = "; ".join(text.splitlines())
            texts.append(line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]} ...")
            os.ftruncate(capture, 0)
            os.lseek(capture, 0, os.SEEK_SET)


@cache
def _capture_file(process: int) -> int:
    """The descriptor of a file without a name, one for each process."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
