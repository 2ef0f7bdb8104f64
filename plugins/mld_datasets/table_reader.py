"""Reader of the rows of a table: ids, labels, splits and the sources of items."""

from __future__ import annotations

import errno
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

from mld_core import (
    RESERVED_COLUMNS,
    SPLITS,
    DataError,
    LineError,
    SplitName,
    did_you_mean,
    label_text,
    raise_line_errors,
    stat_regular_file,
    unused_columns,
)
from mld_datasets.cell_table import UNREAD, CellTable
from mld_datasets.file_name import other_spelling
from mld_datasets.item_source import inline_text
from mld_datasets.random_split import draw_splits
from mld_datasets.table_config import TableConfig

MAX_COLUMNS_NAMED = 10
"""How many unused columns a warning names."""

SPLIT_WORDS: dict[str, SplitName] = {
    **{name: name for name in SPLITS},
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
}
"""The split of each word that may name one, in lower case."""

Source = Path | str | int | None
"""What an item is read from: an existing file, an inline cell, the row of a cell that is read when
indexed, or nothing."""


class TableReader:
    """Reads a table column by column, and collects all errors of rows.

    Attributes:
        file_stats: size and modification time of each file seen so far.
        invalid: by column, the index of each row whose cell cannot be read, and why.
    """

    def __init__(self, table: CellTable) -> None:
        self.table = table
        self.file_stats: list[str] = []
        self.invalid: dict[str, dict[int, str]] = {}
        self._errors: dict[Path, list[LineError]] = defaultdict(list)
        for path, errors in table.errors.items():
            self._errors[path] += errors
        self._files: list[tuple[int, tuple[int, int]]] = []
        """The row of each file and its (device, inode), which is the same under every name."""

    def check_columns(self, modalities: Collection[str], config: TableConfig) -> None:
        """Warn of unused columns. DataError if one that is needed does not exist, or two clash."""
        self._check_split_columns(config)
        path, columns = self.table.path, self.table.columns
        others = [config.split_by] if config.split_by else []
        unused = unused_columns(path, columns, [*modalities, *config.ignore, *others])
        missing = [name for name in modalities if name not in columns]
        if missing:
            raise DataError(
                f"{path}: no column for {', '.join(missing)} (columns here, besides "
                f"{', '.join(RESERVED_COLUMNS)}: {', '.join(map(repr, unused)) or 'none'}); name "
                "the modalities like the columns, or set the `column` of a modality"
            )
        if unused:
            named = ", ".join(map(repr, unused[:MAX_COLUMNS_NAMED]))
            more = f" and {hidden} more" if (hidden := len(unused) - MAX_COLUMNS_NAMED) > 0 else ""
            warnings.warn(
                f"{path}: unused column{'s' * (len(unused) > 1)} {named}{more}", stacklevel=2
            )

    def ids(self) -> list[str]:
        """The id of each row."""
        rows: dict[str, int] = {}
        ids = []
        for row, cell in enumerate(self._id_cells()):
            self._check_text(row, "id", cell)
            row_id = "" if cell is None else str(cell)
            if not row_id:
                self._add_error(row, "has no id")
            elif row_id in rows:
                self._add_error(
                    row, f"the id {row_id!r} is already that of {self._name(rows[row_id], row)}"
                )
            rows.setdefault(row_id, row)
            ids.append(row_id)
        return ids

    def labels(self) -> tuple[list[int], list[str]]:
        """The class index of each row, −1 without a label, and the names of the classes."""
        labels = [""] * len(self.table)
        if "label" in self.table.columns:
            for row, cell in enumerate(self.table.values("label")):
                self._check_text(row, "label", cell)
                labels[row] = label_text(cell)
        classes = sorted(set(labels) - {""})
        if all(re.fullmatch(r"-?[0-9]{1,300}", name) for name in classes):
            classes.sort(key=int)
        class_index = {name: index for index, name in enumerate(classes)}
        return [class_index.get(label, -1) for label in labels], classes

    def splits(
        self, config: TableConfig, keys: Sequence[str | None], seed: int
    ) -> Sequence[SplitName]:
        """The split of each row, from the table or drawn; call it after all `sources`.

        Those that the table does not have are drawn from its training rows.
        """
        if self.table.splits is not None:
            splits = [*self.table.splits]
        elif "split" in self.table.columns:
            return [*map(self._split_of, range(len(self.table)), self.table.values("split"))]
        else:
            splits = ["train"] * len(self.table)
        rows = [row for row, split in enumerate(splits) if split == "train"]
        index = {row: i for i, row in enumerate(rows)}
        links: list[tuple[int, Hashable]] = [*self._files]
        links += [(row, key) for row, key in enumerate(keys) if key is not None]
        links = [(index[row], key) for row, key in links if row in index]
        shares = {name: share for name, share in config.shares.items() if name not in splits}
        for row, split in zip(rows, draw_splits(len(rows), links, shares, seed), strict=True):
            splits[row] = split
        return splits

    def sources(self, column: str, inline: bool) -> list[Source]:
        """What each row's item is read from.

        A cell that cannot be read is entered in `invalid`.
        """
        sources: list[Source] = []
        invalid = self.invalid.setdefault(column, {})
        for row, cell in enumerate(self.table.cells(column, inline)):
            source: Source = None
            if cell is UNREAD:
                source = row
            elif cell is not None and cell != "":
                try:
                    source = inline_text(cell) if inline else self._existing_file(row, cell)
                except ValueError as error:
                    invalid[row] = str(error)
                    source = ""
            sources.append(source)
        return sources

    def raise_if_errors(self) -> None:
        """DataError with the first ten errors of a file by line, if there are any."""
        for path, errors in self._errors.items():
            raise_line_errors(path, errors)

    def _id_cells(self) -> Any:
        if "id" in self.table.columns:
            return self.table.values("id")
        return map(self.table.default_id, range(len(self.table)))

    def _check_split_columns(self, config: TableConfig) -> None:
        path, columns, by = self.table.path, self.table.columns, config.split_by
        if by is not None and by not in columns:
            raise DataError(
                f"{path}: no column {by!r}, by which to split{did_you_mean(by, columns)}"
            )
        settings = {"split_by": by, "validation": config.validation, "test": config.test}
        given = [name for name, value in settings.items() if value is not None]
        if self.table.splits is not None:
            present = set(self.table.splits)
            given = [name for name in given if name in present or present == set(SPLITS)]
            origin = f"is divided into {', '.join(name for name in SPLITS if name in present)}"
            if "split" in columns:
                warnings.warn(f"{path}: {origin}; its column 'split' is not used", stacklevel=3)
        elif "split" in columns:
            origin = "has a column 'split'"
        else:
            return
        if given:
            raise DataError(
                f"{path}: {origin}, beside which {', '.join(given)} cannot be set: remove one or "
                "the other"
            )

    def _split_of(self, row: int, cell: Any) -> SplitName:
        word = str(cell or "").strip()
        split = SPLIT_WORDS.get(word.casefold())
        if split is None:
            self._add_error(row, f"the split must be one of {', '.join(SPLITS)}, not {word!r}")
        return split or "train"

    def _name(self, row: int, near: int) -> str:
        """A row in a message about another one."""
        path, number = self.table.location(row)
        same_file = path == self.table.location(near)[0]
        return f"{self.table.unit} {number}" if same_file else f"{path}:{number}"

    def _add_error(self, row: int, message: str) -> None:
        path, number = self.table.location(row)
        self._errors[path].append((number, message))

    def _existing_file(self, row: int, name: Any) -> Path:
        """The file of a row's cell. ValueError if it cannot be read."""
        if not isinstance(name, str):
            raise ValueError(f"the cell must be a file's name, not {name!r:.80}")
        if "\0" in name:
            raise ValueError(f"{name!r} contains the character NUL")
        folder = self.table.folder(row)
        file = folder / name
        try:
            stat = stat_regular_file(file)
        except OSError as error:
            hint = other_spelling(folder, name) if error.errno == errno.ENOENT else ""
            raise ValueError(f"{file} cannot be read: {error.strerror}{hint}") from error
        self.file_stats.append(f"{stat.st_size} {stat.st_mtime_ns}")
        self._files.append((row, (stat.st_dev, stat.st_ino)))
        return file

    def _check_text(self, row: int, column: str, cell: Any) -> None:
        if isinstance(cell, bool) or not isinstance(cell, str | int | None):
            self._add_error(row, f"the {column} must be text or a whole number, not {cell!r}")
