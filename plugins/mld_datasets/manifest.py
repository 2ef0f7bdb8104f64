"""The dataset `manifest`: the user's own data, listed in a CSV or JSONL file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mld_core import (
    TABLE_NAMES,
    TABLE_SUFFIXES,
    Dataset,
    SpecPath,
    Table,
    hookimpl,
    read_table,
)
from mld_datasets.cell_table import CellTable
from mld_datasets.table_config import TableConfig
from mld_datasets.table_dataset import TableDataset

_OTHER_KINDS = {".parquet": "parquet", ".tar": "webdataset", ".arrow": "hugging-face"}
"""Datasets of other files, by suffix."""


class ManifestConfig(TableConfig):
    """Settings of the dataset `manifest`."""

    path: SpecPath = Field(description="a .csv, .tsv or .jsonl file; relative to the spec's folder")

    @field_validator("path")
    @classmethod
    def _check_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in TABLE_SUFFIXES:
            kind = _OTHER_KINDS.get(path.suffix.lower())
            hint = f"; it may be of kind: {kind}" if kind else ""
            raise ValueError(f"must be a file named {TABLE_NAMES}{hint}")
        return path


class Manifest(TableDataset):
    """Rows listed in a CSV, TSV or JSONL file, with one column for each modality.

    A cell is the path of a file, relative to the manifest, or the value itself where the modality
    is inline; an empty cell is missing. Three columns are reserved, and all of them optional:
    `id` (unique; default "file name:line"), `label` (a class; may be empty) and `split` (train,
    validation, val, valid, dev or test). Without `split`, about the set shares of the rows are
    held out, drawn from the seed such that rows which share a file, or what `split_by` names, are
    in one split.
    """

    kind = "manifest"
    Config = ManifestConfig
    config: ManifestConfig

    def open_table(self) -> CellTable:
        """The table in the file."""
        return _ManifestTable(read_table(self.config.path))


class _ManifestTable(CellTable):
    """A table whose cells are all in memory."""

    unit = "line"

    def __init__(self, table: Table) -> None:
        self.path, self.columns, self.state = table.path, table.columns, [table.sha256]
        self.errors = {table.path: table.errors}
        self._rows = table.rows

    def __len__(self) -> int:
        return len(self._rows)

    def location(self, row: int) -> tuple[Path, int]:
        """The file, and the row's first line."""
        return self.path, self._rows[row].line

    def values(self, column: str) -> Iterator[Any]:
        """The cells of a column."""
        return (row.cells.get(column) for row in self._rows)

    def cells(self, column: str, inline: bool) -> Iterator[Any]:
        """The cells of a column."""
        return self.values(column)


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [Manifest]
