"""A digest of files, by which a dataset tells that one of them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


def content_digest(settings: str, files: Iterable[Path]) -> str:
    """A digest of settings and of the files' names and contents, whatever their times.

    For `Dataset.fingerprint`: `content_digest(super().fingerprint(), [path, ...])`. The order of
    the files counts. OSError if one cannot be read.
    """
    contents = [(file.name, _file_digest(file, file.stat().st_mtime_ns)) for file in files]
    return hashlib.sha256(f"{settings} {contents}".encode()).hexdigest()


@cache
def _file_digest(file: Path, mtime_ns: int) -> str:
    """Cached until the file changes, since every trial of a suite needs it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
