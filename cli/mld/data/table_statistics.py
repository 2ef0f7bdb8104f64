"""Statistics of a table's columns, before any spec says what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

from mld_core import Table, cell_text

MOSTLY = 0.8
"""The share of different cells that are numbers in a column of mostly numbers."""
MAX_CATEGORIES = 20
"""Different texts that may be values of a category; more are texts."""


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Args:
        recorded: cells that are not empty.
        distinct: different cells.
        looks_like: "numbers", "mostly numbers", "files", "categories" or "text"; "constant" if all
            are equal, and "empty" without any.
        example: the first cell; of mostly numbers, the first that is none.
        longest: characters of the longest cell.
    """

    recorded: int
    distinct: int
    looks_like: str
    example: str
    longest: int


def table_columns(table: Table) -> dict[str, TableColumn]:
    """The columns of a table by name."""
    columns = {}
    for name in table.columns:
        cells = [_text(row.cells.get(name)) for row in table.rows]
        counts = Counter(cell for cell in cells if cell)
        columns[name] = TableColumn(
            recorded=sum(counts.values()),
            distinct=len(counts),
            looks_like=_looks_like(counts, table.path.parent),
            example=next(filterfalse(_is_number, counts), next(iter(counts), "")),
            longest=max(map(len, counts), default=0),
        )
    return columns


def repeated_table_rows(table: Table) -> int:
    """The rows that equal an earlier one in every cell but the id."""
    names = [name for name in table.columns if name != "id"]
    rows = Counter(tuple(_text(row.cells.get(name)) for name in names) for row in table.rows)
    return sum(rows.values()) - len(rows)


def _text(cell: object) -> str:
    return cell_text(cell) or ""


def _looks_like(counts: Counter[str], folder: Path) -> str:
    if not counts:
        return "empty"
    if all(map(_is_number, counts)):
        return "numbers" if len(counts) > 1 else "constant"
    if "." in next(iter(counts)) and all(_is_file(folder, cell) for cell in [*counts][:10]):
        return "files"
    if len(counts) == 1:
        return "constant"
    if sum(map(_is_number, counts)) >= MOSTLY * len(counts):
        return "mostly numbers"
    return "categories" if len(counts) <= MAX_CATEGORIES else "text"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_file(folder: Path, cell: str) -> bool:
    try:
        return (folder / cell).is_file()
    except (OSError, ValueError):
        return False
