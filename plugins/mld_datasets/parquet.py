"""The dataset `parquet`: the user's own data in Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mld_core import Dataset, SplitName, hookimpl, require_library
from mld_datasets.arrow_cells import cell_at, known_cells, values
from mld_datasets.cell_table import UNREAD, CellTable
from mld_datasets.parquet_file import ColumnReader, ParquetRows
from mld_datasets.parted_table import (
    Part,
    PartedTable,
    Parts,
    common_columns,
    file_state,
    list_files,
)
from mld_datasets.table_config import TableConfig, TablePath
from mld_datasets.table_dataset import TableDataset

require_library("pyarrow")


class ParquetConfig(TableConfig):
    """Settings of the dataset `parquet`."""

    path: TablePath = Field(
        description="a .parquet file or a folder of them, or one for each split; relative to the "
        "spec's folder"
    )


class Parquet(TableDataset):
    """Rows of Parquet files, with one column for each modality.

    A cell is the text or number itself where the modality is inline. Otherwise it is the content of
    a file (bytes, or Hugging Face's `bytes` and `path`), the path of one, relative to the Parquet
    file, or a list of numbers, which is read as an .npy file. A null or empty cell is missing. The
    columns `id` (default "file name:row"), `label` and `split` are those of a manifest; without
    splits of their own, rows are divided in the same way.
    """

    kind = "parquet"
    Config = ParquetConfig
    config: ParquetConfig

    def open_table(self) -> CellTable:
        """The rows of the files."""
        files = list_files(self.config.path, ".parquet")
        return _ParquetTable([(split, ParquetRows(file)) for split, file in files])


class _ParquetTable(PartedTable):
    """The rows of Parquet files with the same columns."""

    def __init__(self, files: Sequence[tuple[SplitName | None, ParquetRows]]) -> None:
        parts = Parts([Part(file.path, split, len(file)) for split, file in files])
        super().__init__(parts)
        self._files = [file for _, file in files]
        self.columns = common_columns({file.path: file.columns for file in self._files})
        self.state = [file_state(file.path) for file in self._files]
        self.stored = _ParquetCells(parts)

    def values(self, column: str) -> Iterator[Any]:
        """The cells of a column, read batch by batch."""
        for file in self._files:
            for group in range(len(file.group_ends)):
                for array in file.batches(group, column):
                    yield from values(array)

    def cells(self, column: str, inline: bool) -> Iterator[Any]:
        """The cells of a column without those that are read when indexed.

        A row group is read if its statistics do not say which cells there are.
        """
        for file in self._files:
            for group in range(len(file.group_ends)):
                if file.is_stored(group, column, inline):
                    yield from [UNREAD] * file.group_rows(group)
                    continue
                for array in file.batches(group, column):
                    yield from known_cells(array, inline)


class _ParquetCells:
    """Cells that are read when indexed, fast in the order of rows; of a column a batch is held."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._readers: dict[str, tuple[Path, ColumnReader]] = {}

    def __getstate__(self) -> Mapping[str, Any]:
        return {**vars(self), "_readers": {}}

    def read(self, column: str, row: int) -> Any:
        """The cell of a row."""
        part, index = self._parts.find(row)
        path, reader = self._readers.get(column, (None, None))
        if reader is None or path != part.path:
            reader = ColumnReader(ParquetRows(part.path), column)
            self._readers[column] = part.path, reader
        return cell_at(*reader.find(index), self._parts.name(row))


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [Parquet]
