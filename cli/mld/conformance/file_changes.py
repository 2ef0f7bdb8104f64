"""A copy of a dataset's files in which one after the other is changed; the files stay as they are.

The copy consists of links, made as far as they are needed; of copies where links are forbidden, as
on Windows without its developer mode.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def linked_copy(path: Path, folder: Path) -> Path:
    """A file or folder in a new folder, by links; a file with what is beside it."""
    source = path if path.is_dir() else path.parent
    _link_all(source.resolve(), folder)
    return folder if path.is_dir() else folder / path.name


@contextmanager
def recorded_opens(folder: Path) -> Iterator[set[Path]]:
    """A set that in the end holds the files in a folder that Python code has opened."""
    opened: set[Path] = set()
    original = builtins.open

    def recording(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, str | os.PathLike):
            path = Path(os.path.abspath(os.fsdecode(file)))
            if path.is_relative_to(folder) and path.is_file():
                opened.add(path)
        return original(file, *args, **kwargs)

    builtins.open = io.open = recording
    try:
        yield opened
    finally:
        builtins.open = io.open = original


@contextmanager
def changed_file(path: Path, folder: Path) -> Iterator[None]:
    """One more line in the file of a linked copy, until the block ends."""
    for parent in [each for each in reversed(path.parents) if each.is_relative_to(folder)]:
        if parent.is_symlink():
            source = parent.resolve()
            parent.unlink()
            _link_all(source, parent)
    with TemporaryDirectory() as elsewhere:
        before = Path(shutil.move(path, elsewhere))
        shutil.copy2(before, path)
        with path.open("ab") as file:
            file.write(b"\n")
        os.utime(path)
        try:
            yield
        finally:
            path.unlink()
            shutil.move(before, path)


def _link_all(source: Path, folder: Path) -> None:
    folder.mkdir()
    for entry in source.iterdir():
        try:
            (folder / entry.name).symlink_to(entry)
        except OSError:
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, folder / entry.name)
