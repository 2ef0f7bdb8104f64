"""Reader of tables on disk: the rows of a CSV or JSONL file, each with its first line."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mld_core.data.regular_file import read_regular_file
from mld_core.errors import DataError, first_errors

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")

TABLE_NAMES = "*.csv, *.tsv or *.jsonl"
"""The names that tables may have, for messages."""

LineError = tuple[int, str]
"""A line number, from 1, and what is wrong there."""

_FIRST_BYTES = {
    codecs.BOM_UTF32_LE: "UTF-32 text: save it as UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32 text: save it as UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16 text: save it as UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16 text: save it as UTF-8",
    b"PK\x03\x04": "a spreadsheet or a zip archive: export it as CSV",
    b"\x1f\x8b": "compressed: decompress it first",
    b"PAR1": "a Parquet file: export it as CSV",
}
"""First bytes of files that are no UTF-8 text, and what these are."""

_SEPARATORS = (",", ";", "\t", "|")
"""Characters between the cells of a table; the header tells which."""


@dataclass(frozen=True)
class TableRow:
    """One row: the number of its first line, from 1, and its cells by column."""

    line: int
    cells: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The class that the column `label` names; "" without a label."""
        return label_text(self.cells.get("label"))


@dataclass(frozen=True)
class Table:
    """A table with at least one row.

    Args:
        columns: the name of every column, in order of first appearance, without white space around
            it.
        rows: the rows that could be parsed.
        errors: the lines that could not.
        sha256: hex digest of the file's bytes.
        separator: the character between the cells of a CSV file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    errors: tuple[LineError, ...]
    sha256: str
    separator: str = ","

    def renamed(self, names: Mapping[str, str]) -> Table:
        """The table with other names of columns; `names` has the new one of each that changes.

        DataError if two columns would have one name.
        """
        columns = tuple(names.get(column, column) for column in self.columns)
        for column, name in names.items():
            if column in self.columns and columns.count(name) > 1:
                raise DataError(
                    f"{self.path}: column {column!r} is read as {name!r}, but there is another "
                    f"column {name!r}: rename or remove it"
                )
        rows = (
            TableRow(row.line, {names.get(column, column): x for column, x in row.cells.items()})
            for row in self.rows
        )
        return replace(self, columns=columns, rows=tuple(rows))

    def row_id(self, row: TableRow) -> str:
        """The cell of the column `id` as text, "" if it is empty; "file name:line" without one."""
        if "id" not in self.columns:
            return f"{self.path.name}:{row.line}"
        cell = row.cells.get("id")
        return "" if cell is None else str(cell)


def read_table(path: Path) -> Table:
    """Parse a .csv or .tsv file (with a header) or a .jsonl file (an object per line).

    The header of a CSV file tells whether cells are separated by commas, semicolons, tabs or
    vertical bars. DataError if the file has another suffix, cannot be read, is not UTF-8 text or
    has no row.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"{path}: must be a file named {TABLE_NAMES}")
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    text = _decode(path, content)
    separator = _separator(text)
    is_json = path.suffix.lower() == ".jsonl"
    parsed = list(_json_rows(text) if is_json else _csv_rows(text, separator))
    rows = [row for row in parsed if isinstance(row, TableRow)]
    errors = [error for error in parsed if not isinstance(error, TableRow)]
    if not rows:
        raise_line_errors(path, errors)
        raise DataError(f"{path}: has no rows")
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    digest = hashlib.sha256(content).hexdigest()
    return Table(path, tuple(columns), tuple(rows), tuple(errors), digest, separator)


def cell_text(cell: Any) -> str | None:
    """A cell as text: a number, true or false of a JSONL file as JSON writes it; None if neither.

    "NaN" and "Infinity", which JSON files of some programs hold, stay these words.
    """
    if isinstance(cell, str):
        return cell
    return json.dumps(cell) if isinstance(cell, bool | int | float) else None


def label_text(cell: Any) -> str:
    """A label, without white space around it and in Unicode's form NFC; "" without one."""
    return "" if cell is None else unicodedata.normalize("NFC", str(cell)).strip()


def raise_line_errors(path: Path, errors: Iterable[LineError]) -> None:
    """Raise a DataError that lists the errors by line, the first ten of them, if there are any."""
    lines = [f"{path}:{line}: {message}" for line, message in sorted(errors)]
    if lines:
        raise DataError("\n".join(first_errors(lines)))


def _decode(path: Path, content: bytes) -> str:
    for first_bytes, description in _FIRST_BYTES.items():
        if content.startswith(first_bytes):
            raise DataError(f"{path}: is {description}")
    if b"\0" in content[:2]:  # an ASCII character in UTF-16 without a byte order mark
        raise DataError(f"{path}: is UTF-16 text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        word = content[max(start, error.start - 20) : error.start + 1].decode("cp1252", "replace")
        raise DataError(
            f"{path}:{line}: is not UTF-8 text, but perhaps Latin-1 or Windows-1252, in which it "
            f"reads {word!r}: save it as UTF-8"
        ) from error


def _separator(text: str) -> str:
    """The separator that a header holds most of, outside quotation marks; a comma if in doubt."""
    header = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    header = "".join(header.split('"')[::2])
    return max(_SEPARATORS, key=header.count)


def _csv_rows(text: str, separator: str) -> Iterator[TableRow | LineError]:
    """The rows, or the errors of the header alone."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            if not header:
                header = [column.strip() for column in cells]
                if errors := list(_header_errors(header)):
                    yield from ((line, error) for error in errors)
                    return
            elif cells and len(cells) != len(header):
                yield line, f"has {len(cells)} cells, but the header has {len(header)}"
            elif cells:
                yield TableRow(line, dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        yield line, f"is not CSV: {error}"


def _header_errors(header: list[str]) -> Iterator[str]:
    if header and header[0].lower().startswith("sep="):
        yield f"{header[0]!r} is an instruction to Excel, not the header: remove this line"
        return
    for column in dict.fromkeys(header):
        if header.count(column) > 1:
            yield f"the header names {column!r} {header.count(column)} times"


def _json_rows(text: str) -> Iterator[TableRow | LineError]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield TableRow(number, parse_json_cells(line))
        except ValueError as error:
            yield number, str(error)


def parse_json_cells(text: str) -> dict[str, Any]:
    """The cells of a row, by column, that is a JSON object. ValueError says what is wrong."""
    try:
        cells = json.loads(text, object_pairs_hook=_unique_keys)
        if not isinstance(cells, dict):
            raise ValueError("is not a JSON object")
        cells = _unique_keys([(column.strip(), cell) for column, cell in cells.items()])
        if "\\u" in text:
            json.dumps(cells, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character, {error.object[error.start]!r}") from error
    return cells


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    cells = dict(pairs)
    if len(cells) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"names {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return cells
