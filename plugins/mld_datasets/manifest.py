"""The dataset `manifest`: the user's own data, listed in a CSV or JSONL file."""

from __future__ import annotations

import errno
import hashlib
import re
import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from mld_core import (
    RESERVED_COLUMNS,
    SPLITS,
    TABLE_NAMES,
    TABLE_SUFFIXES,
    DataError,
    Dataset,
    DatasetConfig,
    LineError,
    MLDError,
    Modality,
    SpecPath,
    Split,
    SplitName,
    Table,
    TableRow,
    cell_text,
    did_you_mean,
    hookimpl,
    plugin_call,
    raise_line_errors,
    read_table,
    stat_regular_file,
    unused_columns,
)
from mld_datasets.file_name import other_spelling
from mld_datasets.item_source import LazyItems, read_item
from mld_datasets.random_split import HeldOutShares, draw_splits

MAX_COLUMNS_NAMED = 10
"""How many unused columns a warning names."""


DEFAULT_SHARE = 0.1
"""The share of rows in the validation split, and in the test split."""

_SPLITS = {name: name for name in SPLITS} | dict.fromkeys(("val", "valid", "dev"), SPLITS[1])
"""The split of each word that the column `split` may hold, in lower case."""

Share = Annotated[float, Field(ge=0, lt=1)]


class ManifestConfig(DatasetConfig):
    """Settings of the dataset `manifest`."""

    path: SpecPath = Field(description="a .csv, .tsv or .jsonl file; relative to the spec's folder")
    split_by: str | None = Field(
        None,
        description="a column: rows with the same cell are in one split; of a modality that has "
        "split keys, such as scaffolds of molecules, rows with the same key",
    )
    validation: Share | None = Field(
        None, description=f"share of rows in the validation split; default: {DEFAULT_SHARE:g}"
    )
    test: Share | None = Field(
        None, description=f"share of rows in the test split; default: {DEFAULT_SHARE:g}"
    )
    ignore: list[str] = Field(
        [], description="columns that are not modalities, of which no warning is needed"
    )

    @field_validator("path")
    @classmethod
    def _check_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise ValueError(f"must be a file named {TABLE_NAMES}")
        return path

    @property
    def shares(self) -> HeldOutShares:
        """The shares of the rows that are held out."""
        shares: dict[SplitName, float | None] = {"validation": self.validation, "test": self.test}
        return {name: DEFAULT_SHARE if x is None else x for name, x in shares.items()}

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if sum(self.shares.values()) >= 1:
            raise ValueError("validation and test must leave rows for training: lower their shares")
        return self


class Manifest(Dataset):
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

    def __init__(
        self, config: ManifestConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        reader = _ManifestReader(read_table(config.path))
        reader.check_columns(modalities, config)
        self._ids = reader.ids()
        self._labels, self._classes = reader.labels()
        self._sources = {
            name: reader.sources(name, modality.inline) for name, modality in modalities.items()
        }
        self._invalid = reader.invalid
        self._splits = reader.splits(config, self._keys(reader), seed)
        reader.raise_if_errors()
        self._state = [reader.table.sha256, *reader.file_stats]

    @property
    def columns(self) -> Mapping[str, str]:
        """The spec's modalities, all of which are columns of the manifest."""
        return {name: modality.kind for name, modality in self.modalities.items()}

    @property
    def classes(self) -> Sequence[str]:
        """The labels in use, sorted; in numeric order where all are whole numbers."""
        return self._classes

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in the manifest's order; files are read when indexed."""
        rows = [row for row, split in enumerate(self._splits) if split == name]
        items, present, invalid = {}, {}, {}
        for column, modality in self.modalities.items():
            sources = [self._sources[column][row] for row in rows]
            reasons = self._invalid[column]
            items[column] = LazyItems(partial(read_item, modality), sources)
            present[column] = [source is not None for source in sources]
            invalid[column] = {i: reasons[row] for i, row in enumerate(rows) if row in reasons}
        return Split(
            ids=[self._ids[row] for row in rows],
            items=items,
            labels=[self._labels[row] for row in rows] if self._classes else None,
            present=present,
            invalid=invalid,
        )

    def _keys(self, reader: _ManifestReader) -> list[str | None]:
        """What rows of one split share by `split_by`; None where a row shares nothing."""
        column = self.config.split_by
        if column is None:
            return []
        modality = self.modalities.get(column)
        if modality is None or type(modality).split_key is Modality.split_key:
            return [cell_text(row.cells.get(column)) or None for row in reader.table.rows]
        invalid, keys = self._invalid[column], []
        for row, source in enumerate(self._sources[column]):
            key = None
            if source is not None and row not in invalid:
                # An item that cannot be read is told when it is read for training.
                with suppress(ValueError):
                    raw = read_item(modality, source)
                    call = f"kind {modality.kind!r}: split_key"
                    with plugin_call(call, passes=(MLDError, ValueError)):
                        key = modality.split_key(raw)
            keys.append(key)
        return keys

    def fingerprint(self) -> str:
        """Includes the manifest's bytes, and the size and time of each file that it names."""
        text = " ".join([super().fingerprint(), *self._state])
        return hashlib.sha256(text.encode()).hexdigest()


class _ManifestReader:
    """Reads a manifest column by column, and collects all errors of rows.

    Attributes:
        table: the rows as parsed.
        file_stats: size and modification time of each file seen so far.
        invalid: by column, the index of each row whose cell cannot be read, and why.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.file_stats: list[str] = []
        self.invalid: dict[str, dict[int, str]] = {}
        self._errors: list[LineError] = list(table.errors)
        self._files: list[tuple[int, tuple[int, int]]] = []
        """The row of each file and its (device, inode), which is the same under every name."""

    def check_columns(self, modalities: Collection[str], config: ManifestConfig) -> None:
        """Warn of unused columns. DataError if one that is needed does not exist, or two clash."""
        self._check_split_columns(config)
        others = [config.split_by] if config.split_by else []
        unused = unused_columns(self.table, [*modalities, *config.ignore, *others])
        missing = [name for name in modalities if name not in self.table.columns]
        if missing:
            raise DataError(
                f"{self.table.path}: no column for {', '.join(missing)} (columns here, besides "
                f"{', '.join(RESERVED_COLUMNS)}: {', '.join(map(repr, unused)) or 'none'}); name "
                "the modalities like the columns, or set the `column` of a modality"
            )
        if unused:
            columns = ", ".join(map(repr, unused[:MAX_COLUMNS_NAMED]))
            more = f" and {hidden} more" if (hidden := len(unused) - MAX_COLUMNS_NAMED) > 0 else ""
            warnings.warn(
                f"{self.table.path}: unused column{'s' * (len(unused) > 1)} {columns}{more}",
                stacklevel=2,
            )

    def ids(self) -> list[str]:
        """The id of each row."""
        lines: dict[str, int] = {}
        ids = []
        for row in self.table.rows:
            self._check_text(row, "id")
            row_id = self.table.row_id(row)
            if not row_id:
                self._add_error(row, "has no id")
            elif row_id in lines:
                self._add_error(row, f"the id {row_id!r} is already that of line {lines[row_id]}")
            lines.setdefault(row_id, row.line)
            ids.append(row_id)
        return ids

    def _check_split_columns(self, config: ManifestConfig) -> None:
        columns = self.table.columns
        by = config.split_by
        if by is not None and by not in columns:
            raise DataError(
                f"{self.table.path}: no column {by!r}, by which to split{did_you_mean(by, columns)}"
            )
        settings = {"split_by": by, "validation": config.validation, "test": config.test}
        given = [name for name, value in settings.items() if value is not None]
        if "split" in columns and given:
            raise DataError(
                f"{self.table.path}: has a column 'split', beside which {', '.join(given)} cannot "
                "be set: remove one or the other"
            )

    def splits(
        self, config: ManifestConfig, keys: Sequence[str | None], seed: int
    ) -> Sequence[str]:
        """The split of each row, from its column or drawn; call it after all `sources`."""
        if "split" not in self.table.columns:
            links: list[tuple[int, Hashable]] = [*self._files]
            links += [(row, key) for row, key in enumerate(keys) if key is not None]
            return draw_splits(len(self.table.rows), links, config.shares, seed)
        splits = []
        for row in self.table.rows:
            word = str(row.cells.get("split") or "").strip()
            split = _SPLITS.get(word.casefold(), "")
            if not split:
                self._add_error(row, f"the split must be one of {', '.join(SPLITS)}, not {word!r}")
            splits.append(split)
        return splits

    def labels(self) -> tuple[list[int], list[str]]:
        """The class index of each row, −1 without a label, and the names of the classes."""
        for row in self.table.rows:
            self._check_text(row, "label")
        labels = [row.label for row in self.table.rows]
        classes = sorted(set(labels) - {""})
        if all(re.fullmatch(r"-?[0-9]{1,300}", name) for name in classes):
            classes.sort(key=int)
        class_index = {name: index for index, name in enumerate(classes)}
        return [class_index.get(label, -1) for label in labels], classes

    def sources(self, column: str, inline: bool) -> list[Path | str | None]:
        """What each row's item is read from: an existing file, or the cell where inline.

        A cell that cannot be read is entered in `invalid`.
        """
        sources: list[Path | str | None] = []
        invalid = self.invalid.setdefault(column, {})
        for index, row in enumerate(self.table.rows):
            cell = row.cells.get(column)
            if cell is None or cell == "":
                sources.append(None)
                continue
            try:
                source = _inline_cell(cell) if inline else self._existing_file(index, cell)
            except ValueError as error:
                invalid[index] = str(error)
                source = ""
            sources.append(source)
        return sources

    def raise_if_errors(self) -> None:
        """DataError with the first ten errors by line, if there are any."""
        raise_line_errors(self.table.path, self._errors)

    def _add_error(self, row: TableRow, message: str) -> None:
        self._errors.append((row.line, message))

    def _existing_file(self, index: int, name: Any) -> Path:
        """The file of a row's cell. ValueError if it cannot be read."""
        if not isinstance(name, str):
            raise ValueError(f"the cell must be a file's name, not {name!r:.80}")
        if "\0" in name:
            raise ValueError(f"{name!r} contains the character NUL")
        folder = self.table.path.parent
        file = folder / name
        try:
            stat = stat_regular_file(file)
        except OSError as error:
            hint = other_spelling(folder, name) if error.errno == errno.ENOENT else ""
            raise ValueError(f"{file} cannot be read: {error.strerror}{hint}") from error
        self.file_stats.append(f"{stat.st_size} {stat.st_mtime_ns}")
        self._files.append((index, (stat.st_dev, stat.st_ino)))
        return file

    def _check_text(self, row: TableRow, column: str) -> None:
        cell = row.cells.get(column)
        if isinstance(cell, bool) or not isinstance(cell, str | int | None):
            self._add_error(row, f"the {column} must be text or a whole number, not {cell!r}")


def _inline_cell(cell: Any) -> str:
    """The text of a cell. ValueError if it holds none."""
    text = cell_text(cell)
    if text is None:
        raise ValueError(f"the cell must be text, a number, true or false, not {cell!r:.80}")
    return text


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [Manifest]
