"""Tables as files: rows written one by one, so that a table may be larger than the memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from mld.storage.files import atomic_write


def is_json_lines(path: Path) -> bool:
    """Whether a table at a path is a JSONL file, by its suffix."""
    return path.suffix.lower() == ".jsonl"


def write_table(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    separator: str | None = None,
) -> None:
    """Write a CSV file, if the path is named *.csv or *.tsv, or a JSONL file.

    In JSONL a cell that a row lacks stays absent, and `columns` are not used. OutputError if the
    file cannot be written.

    Args:
        separator: between the cells of a CSV file; by default a tab in *.tsv, else a comma.
    """
    suffix = path.suffix.lower()
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        if suffix in (".csv", ".tsv"):
            _write_csv(file, columns, rows, separator or ("\t" if suffix == ".tsv" else ","))
        else:
            _write_json_lines(file, rows)


def _write_csv(
    file: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], separator: str
) -> None:
    quoting_some, quoting_all = (
        csv.DictWriter(file, columns, lineterminator="\n", quoting=quoting, delimiter=separator)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )

    def write(row: Mapping[str, Any]) -> None:
        # The csv module does not quote a lone carriage return, yet reads it as the end of the row.
        writer = quoting_all if any("\r" in str(cell) for cell in row.values()) else quoting_some
        writer.writerow(row)

    write({column: column for column in columns})
    for row in rows:
        write(row)


def _write_json_lines(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        file.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
