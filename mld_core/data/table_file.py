"""Reader of tables on disk: the rows of a CSV or JSONL file, each with its first line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mld_core.data.regular_file import read_regular_file
from mld_core.errors import DataError, first_errors

TABLE_SUFFIXES = (".csv", ".jsonl")
RESERVED_COLUMNS = ("id", "label", "split")
"""Columns of a manifest that describe the row; every other column is a modality's."""

LineError = tuple[int, str]
"""A line number, from 1, and what is wrong there."""


@dataclass(frozen=True)
class TableRow:
    """One row: the number of its first line, from 1, and its cells by column."""

    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table with at least one row.

    Args:
        columns: the name of every column, in order of first appearance.
        rows: the rows that could be parsed.
        errors: the lines that could not.
        sha256: hex digest of the file's bytes.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    errors: tuple[LineError, ...]
    sha256: str


def read_table(path: Path) -> Table:
    """Parse a .csv file (comma-separated, with a header) or a .jsonl file (an object per line).

    DataError if the file has another suffix, cannot be read, is not UTF-8 text or has no row.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path}: must be a file named *.csv or *.jsonl")
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: is not UTF-8 text: {error.reason}") from error
    parsed = list(_csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text))
    rows = [row for row in parsed if isinstance(row, TableRow)]
    errors = [error for error in parsed if not isinstance(error, TableRow)]
    if not rows:
        raise_line_errors(path, errors)
        raise DataError(f"{path}: has no rows")
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    digest = hashlib.sha256(content).hexdigest()
    return Table(path, tuple(columns), tuple(rows), tuple(errors), digest)


def raise_line_errors(path: Path, errors: Iterable[LineError]) -> None:
    """Raise a DataError that lists the errors by line, the first ten of them, if there are any."""
    lines = [f"{path}:{line}: {message}" for line, message in sorted(errors)]
    if lines:
        raise DataError("\n".join(first_errors(lines)))


def _csv_rows(text: str) -> Iterator[TableRow | LineError]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not header:
                header = cells
                for column in dict.fromkeys(header):
                    if header.count(column) > 1:
                        yield 1, f"the header names {column!r} {header.count(column)} times"
            elif cells and len(cells) != len(header):
                yield line, f"has {len(cells)} cells, but the header has {len(header)}"
            elif cells:
                yield TableRow(line, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, f"is not CSV: {error}"


def _json_rows(text: str) -> Iterator[TableRow | LineError]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            yield number, f"is not JSON: {error.msg} at column {error.colno}"
        except ValueError as error:
            yield number, str(error)
        except RecursionError:
            yield number, "is nested too deeply"
        else:
            is_object = isinstance(cells, dict)
            yield TableRow(number, cells) if is_object else (number, "is not a JSON object")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"names {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return cells
