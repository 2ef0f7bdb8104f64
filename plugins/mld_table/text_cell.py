"""Reading and writing the text of a cell as a file."""

from __future__ import annotations

from pathlib import Path

from mld_core import stat_regular_file

MAX_BYTES = 2**20
"""Largest file that is read as a cell."""


def read_text(source: Path | str) -> str:
    """A str itself, or the content of a path's UTF-8 file; without white space around it."""
    if isinstance(source, str):
        return source.strip()
    size = stat_regular_file(source).st_size
    if size > MAX_BYTES:
        raise ValueError(f"the file has {size:,} bytes, and a cell at most {MAX_BYTES:,}")
    return source.read_text(encoding="utf-8-sig").strip()


def write_text(text: str, stem: Path) -> Path:
    """Write a text to a file, the stem with the suffix .txt, and return its path."""
    path = stem.with_name(f"{stem.name}.txt")
    path.write_text(text, encoding="utf-8", newline="")
    return path
