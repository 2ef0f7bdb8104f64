"""Tables on disk: the rows of a CSV or JSONL file, each with the line that it begins on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mld_core import DataError

Fault = tuple[int, str]
"""A line, and what is wrong there."""


@dataclass(frozen=True)
class Record:
    """One row: its first line, and its cells by column."""

    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows that could be read, and what is wrong with the others."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]
    faults: tuple[Fault, ...]


def read_table(path: Path, content: bytes) -> Table:
    """The table in a file's content, by its suffix; DataError if it is not UTF-8 text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: is not UTF-8 text: {error.reason}") from error
    rows = _csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text)
    records, faults = [], []
    for row in rows:
        (records if isinstance(row, Record) else faults).append(row)
    columns = dict.fromkeys(column for record in records for column in record.cells)
    return Table(tuple(columns), tuple(records), tuple(faults))


def _csv_rows(text: str) -> Iterator[Record | Fault]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not header:
                header = cells
                yield from _header_faults(header)
            elif cells and len(cells) != len(header):
                yield line, f"has {len(cells)} cells, but the header has {len(header)}"
            elif cells:
                yield Record(line, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, f"is not CSV: {error}"


def _header_faults(header: list[str]) -> Iterator[Fault]:
    for column in dict.fromkeys(header):
        if header.count(column) > 1:
            yield 1, f"the header names {column!r} {header.count(column)} times"


def _json_rows(text: str) -> Iterator[Record | Fault]:
    for line, told in enumerate(text.split("\n"), 1):
        if not told.strip():
            continue
        try:
            cells = json.loads(told, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            yield line, f"is not JSON: {error.msg} at column {error.colno}"
        except ValueError as error:
            yield line, str(error)
        else:
            wanted = isinstance(cells, dict)
            yield Record(line, cells) if wanted else (line, "is not a JSON object")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"names {next(name for name in names if names.count(name) > 1)!r} twice")
    return told
