"""One guard for the outputs of every command: nothing of the user's is overwritten or mixed in.

A folder of results is empty at first and then bears a mark that says what it holds. A file is new,
or one that the same command has written. Every output is probed before the work starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mld.storage.files import (
    atomic_write,
    load_checksummed_json,
    partial_path,
    with_checksum,
    write_json,
    write_text,
    writing,
)
from mld.storage.locks import locked
from mld_core.data.regular_file import stat_regular_file
from mld_core.errors import OutputError, RunDirError

if TYPE_CHECKING:
    from pydantic import JsonValue

MARK = ".mld.json"
"""The file in a folder of results that says what it holds."""
HIDDEN_FILES = (MARK, ".lock", ".lock.json")
"""The files that every folder of results has beside what the user looks for."""
HEAD_BYTES = 2000
"""How much of a file is read to recognise it."""
PROBE_BYTES = 1 << 16
"""Written to see whether a folder can be written: more than what a full disk has left."""
_ADVICE = ": choose another with --out"


def check_folder(folder: Path, content: str | None = None, is_ours: bool = False) -> None:
    """OutputError unless results can be written to a folder, which holds nothing else.

    Leaves no trace. Hidden files do not count.

    Args:
        content: what the results are, such as "samples"; None if the folder has to be empty.
        is_ours: whether the folder is known to hold such results, even without a mark.
    """
    with writing(folder, _ADVICE):
        marked = _marked_content(folder)
        ours = marked == content if marked else is_ours
        if not ours and (marked or is_occupied(folder)):
            holds = f"holds {marked}" if marked else "is not empty and not made by this command"
            raise OutputError(f"{folder} {holds}: choose another folder with --out")
        probe(folder)


@contextmanager
def claimed(
    folder: Path, content: str, is_ours: bool = False, format: int | None = None
) -> Iterator[None]:
    """Check a folder as `check_folder` does, lock it and mark it; locked until the block ends."""
    check_folder(folder, content, is_ours)
    with locked(folder):
        mark(folder, content, format)
        yield


def mark(folder: Path, content: str, format: int | None = None) -> None:
    """Write a folder's mark, unless it has one.

    Args:
        format: version of the format of what it holds, if that has versions.
    """
    if _marked_content(folder) is None:
        version: dict[str, JsonValue] = {} if format is None else {"format": format}
        write_json(folder / MARK, with_checksum({"content": content, **version}))


def clear_folder(folder: Path, names: Container[str]) -> None:
    """Delete these entries of a folder, all that it holds but hidden files.

    OutputError, and nothing is deleted, if it holds another entry.
    """
    with writing(folder):
        entries = [child for child in folder.iterdir() if not child.name.startswith(".")]
        if others := sorted(child.name for child in entries if child.name not in names):
            raise OutputError(
                f"{folder} holds {others[0]!r}, which mld has not written: move it away, or choose "
                "another folder with --out"
            )
        for child in entries:
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()


def check_file(path: Path, inputs: Iterable[Path], recognise: Iterable[str]) -> None:
    """OutputError unless a file can be written that is no input and replaces nothing of the user's.

    Leaves no trace.

    Args:
        inputs: the files that the command reads.
        recognise: words in the beginning of every file that the command writes.
    """
    with writing(path, _ADVICE):
        for each in inputs:
            if path.exists() and each.exists() and path.samefile(each):
                raise OutputError(f"{path} is what the command reads{_ADVICE}")
        if os.path.lexists(path) and not _is_recognised(path, recognise):
            raise OutputError(f"{path} exists and is not overwritten{_ADVICE}")
        probe(path.parent, partial_path(path).name)


def create_text(path: Path, text: str) -> None:
    """Write a text file where there is none yet. OutputError if there is one, or a folder."""
    if os.path.lexists(path):
        raise OutputError(f"{path} exists and is not overwritten")
    write_text(path, text)


@contextmanager
def create_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; renamed to `path` if the block succeeds, else deleted.

    OutputError if there is something at `path`, or if it cannot be written.
    """
    if os.path.lexists(path):
        raise OutputError(f"{path} exists and is not overwritten")
    partial = partial_path(path)
    with writing(path):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file byte for byte, unless this has been done. OutputError if the copy differs.

    OSError if the source cannot be read.
    """
    content = source.read_bytes()
    with writing(target):
        if target.exists():
            if target.read_bytes() != content:
                raise OutputError(f"{target} is no copy of {source}{_ADVICE}")
            return
    with atomic_write(target) as partial:
        partial.write_bytes(content)


def _marked_content(folder: Path) -> str | None:
    """What a folder's mark says that it holds; None without a mark.

    OutputError if it is corrupt.
    """
    try:
        (folder / MARK).lstat()
        return str(load_checksummed_json(folder / MARK)["content"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RunDirError as error:
        raise OutputError(
            f"{error}: delete it if {folder} holds a run or a suite, else choose another folder "
            "with --out"
        ) from error


def is_occupied(folder: Path) -> bool:
    """Whether a folder holds anything but hidden files."""
    return folder.is_dir() and any(not child.name.startswith(".") for child in folder.iterdir())


def _is_recognised(path: Path, words: Iterable[str]) -> bool:
    """Whether a file's beginning contains all of the words. OSError if it is no regular file."""
    stat_regular_file(path)
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).decode(errors="replace")
    return all(word in head for word in words)


def probe(folder: Path, name: str = "") -> None:
    """OSError unless a folder exists or can be created, and takes a file; leaves no trace.

    Args:
        name: of the file; by default a short one.
    """
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / (name or ".probe.partial")
        try:
            file.write_bytes(bytes(PROBE_BYTES))
        finally:
            file.unlink(missing_ok=True)
    finally:
        for each in created:
            with suppress(OSError):
                each.rmdir()
