"""Tables of cells: what a dataset of rows supplies, whatever its files are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from mld_core import LineError, SplitName

UNREAD: Final = object()
"""In the place of a cell that is read when indexed."""


class StoredCells(Protocol):
    """The cells that are read when indexed; can be sent to another process."""

    def read(self, column: str, row: int) -> Any:
        """The cell of a row. ValueError or OSError if it cannot be read."""


class CellTable(ABC):
    """Rows with a cell in every column: a text, a number, the content of a file, or a file's name.

    Attributes:
        path: of the table, for messages.
        columns: the name of every column.
        errors: lines that are no rows, by file.
        state: what changes with the table, for the fingerprint.
        stored: the cells that are read when indexed; None if all are in memory.
        splits: the split of each row, where the table itself is divided; None in `splits`, or for
            a row, where it is not.
        unit: what rows are counted in.
    """

    path: Path
    columns: Sequence[str]
    errors: Mapping[Path, Sequence[LineError]] = {}
    state: Sequence[str] = ()
    stored: StoredCells | None = None
    splits: Sequence[SplitName] | None = None
    unit: ClassVar[str] = "row"

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def location(self, row: int) -> tuple[Path, int]:
        """The file of a row, and its number there, from 1."""

    def folder(self, row: int) -> Path:
        """The folder to which names of files in a row's cells are relative."""
        return self.location(row)[0].parent

    def default_id(self, row: int) -> str:
        """The id of a row in a table without a column `id`."""
        path, number = self.location(row)
        return f"{path.name}:{number}"

    @abstractmethod
    def values(self, column: str) -> Iterable[Any]:
        """The cells of a column, one after the other; None where there is none."""

    @abstractmethod
    def cells(self, column: str, inline: bool) -> Iterable[Any]:
        """The cells of a column, UNREAD for those in `stored`; None or "" where there is none.

        If the column is not inline, cells that name a file are never UNREAD.
        """
