"""Datasets that are tables: rows with a cell for each modality, whatever files hold them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mld_core import (
    DataError,
    Dataset,
    MLDError,
    Modality,
    Split,
    SplitName,
    cell_text,
    plugin_call,
)
from mld_datasets.cell_table import CellTable
from mld_datasets.item_source import LazyItems, read_cell, read_item
from mld_datasets.table_config import TableConfig
from mld_datasets.table_reader import TableReader


class TableDataset(Dataset):
    """Rows of a table, with one column for each modality; subclasses say how the table is opened.

    Of the table only the cells that are read when indexed are kept.
    """

    config: TableConfig

    def __init__(self, config: TableConfig, modalities: Mapping[str, Modality], seed: int) -> None:
        super().__init__(config, modalities, seed)
        table = self.open_table()
        self._stored = table.stored
        try:
            self._read_table(table)
        except (ValueError, OSError) as error:
            raise DataError(f"{table.path}: cannot be read: {error}") from error

    @abstractmethod
    def open_table(self) -> CellTable:
        """The table. DataError if it cannot be read or has no rows."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The spec's modalities, all of which are columns of the table."""
        return {name: modality.kind for name, modality in self.modalities.items()}

    @property
    def classes(self) -> Sequence[str]:
        """The labels in use, sorted; in numeric order where all are whole numbers."""
        return self._classes

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in the table's order; cells and files are read when indexed."""
        rows = [row for row, split in enumerate(self._splits) if split == name]
        items, present, invalid = {}, {}, {}
        for column in self.modalities:
            sources = [self._sources[column][row] for row in rows]
            reasons = self._invalid[column]
            items[column] = LazyItems(partial(self._read, column), sources)
            present[column] = [source is not None for source in sources]
            invalid[column] = {i: reasons[row] for i, row in enumerate(rows) if row in reasons}
        return Split(
            ids=[self._ids[row] for row in rows],
            items=items,
            labels=[self._labels[row] for row in rows] if self._classes else None,
            present=present,
            invalid=invalid,
        )

    def fingerprint(self) -> str:
        """Includes the state of the table, and the size and time of each file that it names."""
        text = " ".join([super().fingerprint(), *self._state])
        return hashlib.sha256(text.encode()).hexdigest()

    def _read_table(self, table: CellTable) -> None:
        """All but the cells that are read when indexed."""
        reader = TableReader(table)
        reader.check_columns(self.modalities, self.config)
        self._ids = reader.ids()
        self._labels, self._classes = reader.labels()
        self._sources = {
            name: reader.sources(name, modality.inline)
            for name, modality in self.modalities.items()
        }
        self._invalid = reader.invalid
        self._splits = reader.splits(self.config, self._keys(table), self.seed)
        reader.raise_if_errors()
        self._state = [*table.state, *reader.file_stats]

    def _read(self, column: str, source: Path | str | int) -> Any:
        """The raw datum of a source."""
        modality = self.modalities[column]
        if not isinstance(source, int):
            return read_item(modality, source)
        assert self._stored is not None
        return read_cell(modality, self._stored.read(column, source))

    def _keys(self, table: CellTable) -> list[str | None]:
        """What rows of one split share by `split_by`; None where a row shares nothing."""
        column = self.config.split_by
        if column is None:
            return []
        modality = self.modalities.get(column)
        if modality is None or type(modality).split_key is Modality.split_key:
            return [cell_text(cell) or None for cell in table.values(column)]
        invalid, keys = self._invalid[column], []
        for row, source in enumerate(self._sources[column]):
            key = None
            if source is not None and row not in invalid:
                # An item that cannot be read is told when it is read for training.
                with suppress(ValueError):
                    raw = self._read(column, source)
                    call = f"kind {modality.kind!r}: split_key"
                    with plugin_call(call, passes=(MLDError, ValueError)):
                        key = modality.split_key(raw)
            keys.append(key)
        return keys
