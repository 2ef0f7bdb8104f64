"""A Parquet file: its columns, read in batches of rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld_core import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 4 << 20
"""About the size of a batch of a column."""

MAX_BATCH_ROWS = 256
"""Limit of a batch's rows: values that the file holds once are repeated in memory."""


class ParquetRows:
    """The rows of a mapped Parquet file. DataError if it is none, or names a column twice.

    Attributes:
        columns: the name of every column.
        group_ends: by row group, the index of the row after its last one.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetFile

        self.path = path
        with self._errors():
            self._file = ParquetFile(path, memory_map=True)
        self._metadata = self._file.metadata
        self._schema = self._file.schema_arrow
        self.columns: list[str] = self._schema.names
        for column in self.columns:
            if (count := self.columns.count(column)) > 1:
                raise DataError(f"{path}: names the column {column!r} {count} times")
        self.group_ends = [*accumulate(map(self.group_rows, range(self._file.num_row_groups)))]

    def __len__(self) -> int:
        rows: int = self._metadata.num_rows
        return rows

    def group_rows(self, group: int) -> int:
        """The number of rows of a row group."""
        rows: int = self._metadata.row_group(group).num_rows
        return rows

    def batches(self, group: int, column: str) -> Iterator[pa.Array]:
        """A column of a row group, in arrays of about BATCH_BYTES."""
        size = sum(leaf.total_uncompressed_size for leaf in self._leaves(group, column))
        rows = self.group_rows(group) * BATCH_BYTES // max(size, 1)
        batch_size = min(max(rows, 1), MAX_BATCH_ROWS)
        with self._errors():
            batches = self._file.iter_batches(batch_size, [group], [column], use_threads=False)
            batch = next(batches, None)
        while batch is not None:
            yield batch.column(column)
            with self._errors():
                batch = next(batches, None)

    def is_stored(self, group: int, column: str, inline: bool) -> bool:
        """Whether all cells of a row group hold something that is read when indexed.

        False also if the statistics of the file do not say so.
        """
        from pyarrow import types

        kind = self._schema.field(column).type
        is_text = types.is_string(kind) or types.is_large_string(kind)
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        leaves = self._leaves(group, column)
        if types.is_struct(kind):
            leaves = [leaf for leaf in leaves if leaf.path_in_schema == f"{column}.bytes"]
        if len(leaves) != 1 or (not inline and (is_text or is_number)):
            return False
        statistics = leaves[0].statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
        # The least text is empty if any is.
        return not inline or is_number or bool(statistics.has_min_max and statistics.min)

    def _leaves(self, group: int, column: str) -> list[Any]:
        """The metadata of the columns of values that make up a column."""
        metadata = self._metadata.row_group(group)
        leaves = [metadata.column(index) for index in range(metadata.num_columns)]
        return [leaf for leaf in leaves if f"{leaf.path_in_schema}.".startswith(f"{column}.")]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise self.error(error) from error

    def error(self, reason: object) -> DataError:
        """The error if the file cannot be read."""
        return DataError(f"{self.path}: is not a readable Parquet file: {reason}")


class ColumnReader:
    """A column of a Parquet file; to go back, it reads a row group again."""

    def __init__(self, file: ParquetRows, column: str) -> None:
        self._file, self._column = file, column
        self._group, self._start = -1, 0
        self._array: pa.Array = ()
        self._batches: Iterator[pa.Array] = iter(())

    def find(self, row: int) -> tuple[pa.Array, int]:
        """The batch of a row, and the row's index in it."""
        ends = self._file.group_ends
        group = bisect_right(ends, row)
        if group != self._group or row < self._start:
            self._group, self._array = group, ()
            self._start = ends[group] - self._file.group_rows(group)
            self._batches = self._file.batches(group, self._column)
        while row >= self._start + len(self._array):
            self._start += len(self._array)
            self._array = self._next()
        return self._array, row - self._start

    def _next(self) -> pa.Array:
        for array in self._batches:
            return array
        raise self._file.error("it has fewer rows than it says")
