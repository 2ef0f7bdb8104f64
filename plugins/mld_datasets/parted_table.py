"""Tables whose rows lie in several files or splits."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from mld_core import DataError, SplitName, stat_regular_file
from mld_datasets.cell_table import CellTable


@dataclass(frozen=True)
class Part:
    """Some rows of a table.

    Args:
        path: where they are.
        split: in which all of them are; None if the table is not divided.
        rows: their number.
        names: of each row; by default its number, from 1.
    """

    path: Path
    split: SplitName | None
    rows: int
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Parts:
    """The parts of a table, at least one, in the order of its rows."""

    parts: Sequence[Part]

    def __len__(self) -> int:
        """The number of rows."""
        return sum(part.rows for part in self.parts)

    def find(self, row: int) -> tuple[Part, int]:
        """The part of a row, and the row's index in it."""
        number = self._part_of(row)
        return self.parts[number], row - self._starts[number]

    def name(self, row: int) -> str:
        """The name of the row's part, relative to the folder that holds all, and the row's."""
        part, index = self.find(row)
        name = part.names[index] if part.names else str(index + 1)
        return f"{self._names[self._part_of(row)]}:{name}"

    @cached_property
    def folder(self) -> Path:
        """The deepest folder that holds all parts."""
        return Path(os.path.commonpath([part.path.parent for part in self.parts]))

    def _part_of(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    @cached_property
    def _starts(self) -> list[int]:
        return [*accumulate((part.rows for part in self.parts[:-1]), initial=0)]

    @cached_property
    def _names(self) -> list[str]:
        return [part.path.relative_to(self.folder).as_posix() for part in self.parts]


class PartedTable(CellTable):
    """A table in parts. DataError if it has no rows, or none to train on.

    Args:
        path: of the table; by default the only part's, or the folder that holds all.
    """

    def __init__(self, parts: Parts, path: Path | None = None) -> None:
        self._parts = parts
        self.path = path or (parts.parts[0].path if len(parts.parts) == 1 else parts.folder)
        if not len(parts):
            raise DataError(f"{self.path}: has no rows")
        splits = [part.split for part in parts.parts for _ in range(part.rows)]
        divided = [split for split in splits if split is not None]
        if divided:
            self.splits = divided
            if "train" not in divided:
                raise DataError(f"{self.path}: has no training rows")

    def __len__(self) -> int:
        return len(self._parts)

    def location(self, row: int) -> tuple[Path, int]:
        """The part of a row, and its number there, from 1."""
        part, index = self._parts.find(row)
        return part.path, index + 1

    def default_id(self, row: int) -> str:
        """The names of the part and of the row."""
        return self._parts.name(row)


def common_columns(columns: Mapping[Path, Sequence[str]]) -> Sequence[str]:
    """The columns of the first part, which all have. DataError if one lacks any of them."""
    first, expected = next(iter(columns.items()))
    for path, names in columns.items():
        if missing := [name for name in expected if name not in names]:
            raise DataError(f"{path}: has no column {missing[0]!r}, unlike {first}")
    return expected


def list_files(
    path: Path | Mapping[SplitName, Path],
    suffix: str,
    expand: Callable[[Path], Iterable[Path]] = lambda path: [path],
) -> list[tuple[SplitName | None, Path]]:
    """The files of a TablePath with their splits, those of a folder with the suffix, by name.

    DataError if there is none, or one cannot be read.

    Args:
        expand: the paths for which a path stands.
    """
    paths = [(None, path)] if isinstance(path, Path) else path.items()
    files = [
        (split, file)
        for split, each in paths
        for expanded in expand(each)
        for file in _files_at(expanded, suffix)
    ]
    for _, file in files:
        file_state(file)
    return files


def _files_at(path: Path, suffix: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix)
    if not files:
        raise DataError(f"{path}: the folder has no {suffix} file")
    return files


def file_state(path: Path) -> str:
    """Name, size and modification time of a file. DataError if it cannot be read."""
    try:
        stat = stat_regular_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns}"
