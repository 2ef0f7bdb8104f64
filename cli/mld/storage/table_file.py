"""Tables as files: rows written one by one, so that a table may be larger than the memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mld.storage.files import atomic_write


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file, if the path is named *.csv, or a JSONL file.

    In JSONL a cell that a row lacks stays absent, and `columns` are not used. OutputError if the
    file cannot be written.
    """
    write = _write_csv if path.suffix.lower() == ".csv" else _write_json_lines
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        write(file, columns, rows)


def _write_csv(file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    quoting_some, quoting_all = (
        csv.DictWriter(file, columns, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )

    def write(row: Mapping[str, Any]) -> None:
        # The csv module does not quote a lone carriage return, yet reads it as the end of the row.
        writer = quoting_all if any("\r" in str(cell) for cell in row.values()) else quoting_some
        writer.writerow(row)

    write({column: column for column in columns})
    for row in rows:
        write(row)


def _write_json_lines(
    file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    for row in rows:
        file.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
