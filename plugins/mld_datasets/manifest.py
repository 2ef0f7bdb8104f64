"""The dataset `manifest`: the user's own data, listed in a CSV or JSONL file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mld_core import (
    DataError,
    Dataset,
    DatasetConfig,
    MLDError,
    Modality,
    PluginError,
    SpecPath,
    Split,
    SplitName,
    hookimpl,
)
from mld_datasets.random_split import drawn_splits
from mld_datasets.table_file import Fault, Record, Table, read_table

RESERVED = ("id", "label", "split")
SPLITS = ("train", "validation", "test")
SHOWN = 10
"""How many faults of a manifest one error shows."""


class ManifestConfig(DatasetConfig):
    """Where the manifest is."""

    path: SpecPath = Field(description="a .csv or .jsonl file; beside the spec, if relative")

    @field_validator("path")
    @classmethod
    def _known_suffix(cls, path: Path) -> Path:
        if path.suffix.lower() not in (".csv", ".jsonl"):
            raise ValueError("must be a file named *.csv or *.jsonl")
        return path


class Manifest(Dataset):
    """Rows listed in a CSV or JSONL file, with one column for each modality.

    A cell is the path of a file, relative to the manifest, or the datum itself where the modality
    is inline; an empty cell is missing. Three columns are special, and none of them is needed:
    `id` (unique; else "file name:line"), `label` (a class; may be empty) and `split` (train,
    validation or test; else about 80, 10 and 10 per cent of the rows, drawn from the seed so that
    rows which share a file are in one split).
    """

    kind = "manifest"
    Config = ManifestConfig
    config: ManifestConfig

    def __init__(
        self, config: ManifestConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        try:
            content = config.path.read_bytes()
        except OSError as error:
            raise DataError(f"{config.path}: cannot be read: {error.strerror}") from error
        table = read_table(config.path, content)
        reading = _Reading(config.path, table)
        reading.check_columns(modalities)
        self._ids = reading.ids()
        self._labels, self._classes = reading.labels()
        self._sources = {
            name: reading.sources(name, modality.inline) for name, modality in modalities.items()
        }
        self._splits = reading.splits(seed)
        reading.settle()
        self._state = [hashlib.sha256(content).hexdigest(), *reading.stamps]

    @property
    def columns(self) -> Mapping[str, str]:
        """The spec's modalities, which are all columns of the manifest."""
        return {name: modality.kind for name, modality in self.modalities.items()}

    @property
    def classes(self) -> Sequence[str]:
        """The labels in use, in numeric order where all are whole numbers."""
        return self._classes

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in the manifest's order; files are read when indexed."""
        rows = [row for row, own in enumerate(self._splits) if own == name]
        return Split(
            ids=[self._ids[row] for row in rows],
            items={
                own: _Column(modality, [self._sources[own][row] for row in rows])
                for own, modality in self.modalities.items()
            },
            labels=[self._labels[row] for row in rows] if self._classes else None,
        )

    def fingerprint(self) -> str:
        """Also of the manifest's bytes, and of the size and time of each file that it names."""
        told = " ".join([super().fingerprint(), *self._state])
        return hashlib.sha256(told.encode()).hexdigest()


class _Reading:
    """Reads a table column by column, and gathers everything that is wrong with it."""

    def __init__(self, path: Path, table: Table) -> None:
        self._path = path
        self._table = table
        self._faults: list[Fault] = list(table.faults)
        self.stamps: list[str] = []
        """Size and time of each file met so far."""
        self._files: list[tuple[int, tuple[int, int]]] = []
        """Each of them by its row, device and number there, however it was named."""

    def check_columns(self, wanted: Iterable[str]) -> None:
        """DataError where the table has no rows, or no column for a modality."""
        if not self._table.records:
            self.settle()
            raise DataError(f"{self._path}: has no rows")
        usable = [column for column in self._table.columns if column not in RESERVED]
        missing = [name for name in wanted if name not in usable]
        if missing:
            seen = ", ".join(usable) or "none"
            raise DataError(
                f"{self._path}: no column for {', '.join(missing)} (columns here, beside "
                f"{', '.join(RESERVED)}: {seen}); name the modalities as the columns"
            )

    def ids(self) -> list[str]:
        """What each row is called."""
        if "id" not in self._table.columns:
            return [f"{self._path.name}:{record.line}" for record in self._table.records]
        lines: dict[str, int] = {}
        ids = []
        for record in self._table.records:
            name = self._word(record, "id")
            if not name:
                self._faults.append((record.line, "has no id"))
            elif name in lines:
                told = f"the id {name!r} is already that of line {lines[name]}"
                self._faults.append((record.line, told))
            lines.setdefault(name, record.line)
            ids.append(name)
        return ids

    def splits(self, seed: int) -> Sequence[str]:
        """The split of each row: as told, or drawn, once all sources are known."""
        if "split" not in self._table.columns:
            return drawn_splits(len(self._table.records), self._files, seed)
        splits = []
        for record in self._table.records:
            split = self._word(record, "split")
            if split not in SPLITS:
                told = f"the split must be one of {', '.join(SPLITS)}, not {split!r}"
                self._faults.append((record.line, told))
            splits.append(split)
        return splits

    def labels(self) -> tuple[list[int], list[str]]:
        """The class index of each row, −1 without one, and the classes' names."""
        words = [self._word(record, "label") for record in self._table.records]
        classes = sorted(set(words) - {""})
        if all(re.fullmatch(r"-?[0-9]+", name) for name in classes):
            classes.sort(key=int)
        index = {name: place for place, name in enumerate(classes)}
        return [index.get(word, -1) for word in words], classes

    def sources(self, column: str, inline: bool) -> list[Path | str | None]:
        """What each row's item is read from: a file that exists, or the cell where inline."""
        sources: list[Path | str | None] = []
        for row, record in enumerate(self._table.records):
            cell = record.cells.get(column)
            if cell == "":
                cell = None
            elif cell is not None and not isinstance(cell, str):
                told = f"the cell of column {column!r} must be text, not {cell!r}"
                self._faults.append((record.line, told))
            elif cell is not None and not inline:
                cell = self._path.parent / cell
                self._stamp(row, column, cell)
            sources.append(cell)
        return sources

    def settle(self) -> None:
        """DataError if anything was wrong so far, with the first ten things by line."""
        if self._faults:
            lines = [f"{self._path}:{line}: {told}" for line, told in sorted(self._faults)]
            more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
            raise DataError("\n".join(lines[:SHOWN] + more))

    def _stamp(self, row: int, column: str, file: Path) -> None:
        try:
            told = file.stat()
        except OSError as error:
            fault = f"column {column!r}: {file} cannot be read: {error.strerror}"
            self._faults.append((self._table.records[row].line, fault))
        else:
            self.stamps.append(f"{told.st_size} {told.st_mtime_ns}")
            self._files.append((row, (told.st_dev, told.st_ino)))

    def _word(self, record: Record, column: str) -> str:
        """The cell of a special column as text; "" where there is none."""
        cell = record.cells.get(column)
        if cell is None:
            return ""
        if isinstance(cell, bool) or not isinstance(cell, str | int):
            told = f"the {column} must be text or a whole number, not {cell!r}"
            self._faults.append((record.line, told))
        return str(cell)


@dataclass(frozen=True)
class _Column(Sequence[Any]):
    """One modality's data, each read from its source when indexed."""

    modality: Modality
    sources: Sequence[Path | str | None]

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, row: Any) -> Any:
        source = self.sources[row]
        if source is None:
            return None
        told = repr(source) if isinstance(source, str) else str(source)
        try:
            return self.modality.read(source)
        except MLDError:
            raise
        except OSError as error:
            raise ValueError(f"{told}: {error.strerror or error}") from error
        except ValueError as error:
            raise ValueError(f"{told}: {error}") from error
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise PluginError(
                f"kind {self.modality.kind!r}: read failed on {told}: {said}"
            ) from error


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module, for mld."""
    return [Manifest]
