"""The dataset `hugging-face`: data of the library `datasets`, from a folder or the Hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from mld_core import DataError, Dataset, SpecPath, hookimpl, require_library
from mld_datasets.arrow_cells import cell_at, known_cells, values
from mld_datasets.cell_table import CellTable
from mld_datasets.parted_table import Part, PartedTable, Parts, common_columns, file_state
from mld_datasets.table_config import TableConfig
from mld_datasets.table_dataset import TableDataset
from mld_datasets.table_reader import SPLIT_WORDS

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

require_library("datasets")

BATCH_ROWS = 1024
"""Rows of a column that are looked at together."""


class HuggingFaceConfig(TableConfig):
    """Settings of the dataset `hugging-face`."""

    path: SpecPath | None = Field(
        None, description="a folder written by `save_to_disk`; relative to the spec's folder"
    )
    hub: str | None = Field(
        None, description="in place of path: a name on the Hugging Face Hub, such as ylecun/mnist"
    )
    subset: str | None = Field(None, description="of the data on the Hub; default: its only one")
    revision: str | None = Field(
        None, description="of the data on the Hub: a branch, tag or commit"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("set either path, a folder, or hub, a name on the Hugging Face Hub")
        settings = {"subset": self.subset, "revision": self.revision}
        unused = [name for name, value in settings.items() if value is not None]
        if self.hub is None and unused:
            raise ValueError(f"{' and '.join(unused)} can only be set beside hub")
        return self


class HuggingFace(TableDataset):
    """Rows of a dataset of the library `datasets`, with one column for each modality.

    A cell is the text or number itself where the modality is inline. Otherwise it is the content of
    a file (an Image, an Audio or bytes, which are not decoded), the path of one, relative to the
    folder of the dataset, or a list of numbers, which is read as an .npy file. A null or
    empty cell is missing. The columns `id` (default "split:row"), `label` and `split` are those of
    a manifest. The splits of a DatasetDict are train, validation (val, valid, dev) and test; those
    that it lacks are drawn from its training rows, as are those of a Dataset.
    """

    kind = "hugging-face"
    Config = HuggingFaceConfig
    config: HuggingFaceConfig

    def open_table(self) -> CellTable:
        """The rows of the folder, or of the data on the Hub."""
        path, hub = self.config.path, self.config.hub
        if path is not None:
            loaded = _load(path, "load_from_disk", str(path))
            return _ArrowTable(path, loaded, map(file_state, sorted(path.rglob("*.json"))))
        name = Path(str(hub))
        loaded = _load(name, "load_dataset", hub, self.config.subset, revision=self.config.revision)
        return _ArrowTable(name, loaded)


class _ArrowTable(PartedTable):
    """The rows of a Dataset, or those of a DatasetDict split by split."""

    def __init__(self, path: Path, loaded: Any, state: Iterable[str] = ()) -> None:
        splits = dict(_splits(path, loaded))
        parts = Parts([*splits])
        super().__init__(parts, path)
        self._sets = {part.path: rows.with_format("arrow") for part, rows in splits.items()}
        self.columns = common_columns({p: rows.column_names for p, rows in self._sets.items()})
        files = [file["filename"] for rows in self._sets.values() for file in rows.cache_files]
        self.state = [*state, *map(file_state, map(Path, files))]
        self.stored = _ArrowCells(parts, self._sets)

    def folder(self, row: int) -> Path:
        """The folder of the dataset."""
        return self.path

    def values(self, column: str) -> Iterator[Any]:
        """The cells of a column; those of a ClassLabel are the names of the classes."""
        for rows in self._sets.values():
            class_names = _class_names(rows, column)
            for array in _arrays(rows, column):
                cells = values(array)
                yield from map(class_names.get, cells) if class_names else cells

    def cells(self, column: str, inline: bool) -> Iterator[Any]:
        """The cells of a column without those that are read when indexed."""
        if any(_class_names(rows, column) for rows in self._sets.values()):
            return self.values(column)
        arrays = (array for rows in self._sets.values() for array in _arrays(rows, column))
        return (cell for array in arrays for cell in known_cells(array, inline))


class _ArrowCells:
    """Cells that are read when indexed, from mapped tables."""

    def __init__(self, parts: Parts, sets: Mapping[Path, datasets.Dataset]) -> None:
        self._parts, self._sets = parts, sets
        self._columns: dict[tuple[Path, str], datasets.Dataset] = {}

    def read(self, column: str, row: int) -> Any:
        """The cell of a row."""
        part, index = self._parts.find(row)
        key = part.path, column
        if key not in self._columns:
            self._columns[key] = self._sets[part.path].select_columns([column])
        array = self._columns[key][index : index + 1].column(column).chunk(0)
        return cell_at(array, 0, self._parts.name(row))


def _load(path: Path, function: str, *args: str | None, **options: str | None) -> Any:
    """What a function of the library loads. DataError if it cannot."""
    import datasets

    try:
        return getattr(datasets, function)(*args, **options)
    except MemoryError:
        raise
    except Exception as error:
        # Of files that are damaged or empty, the library raises errors of any kind.
        raise DataError(f"{path}: cannot be loaded by the library datasets: {error}") from error


def _splits(path: Path, loaded: Any) -> Iterator[tuple[Part, datasets.Dataset]]:
    """The rows by their place, each split by itself. Warns of splits that are not used."""
    if not isinstance(loaded, dict):
        yield Part(path, None, loaded.num_rows), loaded
        return
    unused = [name for name in loaded if name.casefold() not in SPLIT_WORDS]
    if len(unused) == len(loaded):
        raise DataError(
            f"{path}: has no split {', '.join(SPLIT_WORDS)} (splits: {', '.join(unused)})"
        )
    if unused:
        plural = "s" * (len(unused) > 1)
        warnings.warn(f"{path}: unused split{plural} {', '.join(unused)}", stacklevel=2)
    for name, rows in loaded.items():
        if name not in unused:
            yield Part(path / name, SPLIT_WORDS[name.casefold()], rows.num_rows), rows


def _arrays(rows: datasets.Dataset, column: str) -> Iterator[pa.Array]:
    """A column in arrays of BATCH_ROWS rows or fewer."""
    for table in rows.select_columns([column]).iter(BATCH_ROWS):
        yield from table.column(column).chunks


def _class_names(rows: datasets.Dataset, column: str) -> dict[int, str]:
    """The name of each class of a ClassLabel; empty for other columns. −1 stands for none."""
    return dict(enumerate(getattr(rows.features[column], "names", None) or ()))


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [HuggingFace]
