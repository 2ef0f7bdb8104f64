"""The dataset `webdataset`: the user's own data in .tar shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from mld_core import (
    RESERVED_COLUMNS,
    DataError,
    Dataset,
    LineError,
    SplitName,
    hookimpl,
    parse_json_cells,
    require_library,
)
from mld_datasets.cell_table import UNREAD, CellTable
from mld_datasets.item_source import FileContent, inline_text
from mld_datasets.parted_table import (
    Part,
    PartedTable,
    Parts,
    file_state,
    list_files,
)
from mld_datasets.shards import Shard
from mld_datasets.table_config import TableConfig, TablePath
from mld_datasets.table_dataset import TableDataset

require_library("webdataset")

JSON = "json"
"""The extension of files whose keys are columns."""

CLASS = "cls"
"""The extension of a file with the class of a sample."""


class WebDatasetConfig(TableConfig):
    """Settings of the dataset `webdataset`."""

    path: TablePath = Field(
        description="a .tar file, a folder of them, or names with braces, as in "
        "train-{000..099}.tar; or one of these for each split; relative to the spec's folder"
    )


class WebDataset(TableDataset):
    """Samples of WebDataset shards, with one column for each modality.

    A column is an extension of files, such as jpg or seg.png, or a key of the JSON object in a
    sample's .json file. A file is the text itself where the modality is inline; a file without
    content is then missing, as is one that is not there. The columns `id` (default "shard:key"),
    `label` (or cls, as in WebDataset) and `split` are those of a manifest; without splits of their
    own, rows are divided in the same way.
    """

    kind = "webdataset"
    Config = WebDatasetConfig
    config: WebDatasetConfig

    def open_table(self) -> CellTable:
        """The samples of the shards; of other files than .json, only the headers are read."""
        files = list_files(self.config.path, ".tar", _expand_braces)
        shards = [(split, Shard.scan(file)) for split, file in files]
        by = [self.config.split_by] if self.config.split_by else []
        inline = {name: modality.inline for name, modality in self.modalities.items()}
        return _ShardTable(shards, {**dict.fromkeys([*RESERVED_COLUMNS, *by], False), **inline})


class _ShardTable(PartedTable):
    """The samples of shards.

    Args:
        inline: of each column that is used, whether its texts are read when indexed.
    """

    unit = "sample"

    def __init__(
        self, shards: Sequence[tuple[SplitName | None, Shard]], inline: Mapping[str, bool]
    ) -> None:
        parts = Parts([Part(each.path, split, len(each.keys), each.keys) for split, each in shards])
        super().__init__(parts)
        self._shards = [shard for _, shard in shards]
        self.state = [file_state(shard.path) for shard in self._shards]
        extensions = dict.fromkeys(name for shard in self._shards for name in shard.fields)
        self._json: dict[str, list[Any]] = {name: [] for name in inline}
        keys = self._read_json(inline) if JSON in extensions else {}
        self._extensions = {name: name for name in extensions if name != JSON}
        if CLASS in extensions and "label" not in extensions | keys:
            self._extensions["label"] = CLASS
            if CLASS not in inline:
                del self._extensions[CLASS]
        self.columns = [*dict.fromkeys([*self._extensions, *keys])]
        by_path = {shard.path: shard for shard in self._shards}
        self.stored = self._cells = _ShardCells(parts, by_path, self._extensions)

    def values(self, column: str) -> Iterator[Any]:
        """The cells of a column; of a file its text."""
        for row, cell in enumerate(self.cells(column, inline=True)):
            value = self._cells.read(column, row) if cell is UNREAD else cell
            yield inline_text(value) if isinstance(value, FileContent) else value

    def cells(self, column: str, inline: bool) -> Iterator[Any]:
        """The cells of a column without those that are read when indexed."""
        if column not in self._extensions:
            yield from self._json[column]
            return
        for shard in self._shards:
            for size in shard.sizes(self._extensions[column]):
                yield None if size is None or (inline and not size) else UNREAD

    def _read_json(self, inline: Mapping[str, bool]) -> dict[str, None]:
        """Enter the cells of .json files; returns their keys."""
        keys: dict[str, None] = {}
        self.errors = errors = defaultdict[Path, list[LineError]](list)
        for shard in self._shards:
            for sample, content in enumerate(shard.contents(JSON)):
                cells = {}
                try:
                    cells = _json_cells(content)
                except ValueError as error:
                    message = f"{shard.keys[sample]}.{JSON} {error}"
                    errors[shard.path].append((sample + 1, message))
                keys |= dict.fromkeys(cells)
                for name, is_inline in inline.items():
                    cell = cells.get(name)
                    is_read_later = cell not in (None, "") and (is_inline or isinstance(cell, list))
                    self._json[name].append(UNREAD if is_read_later else cell)
        return keys


class _ShardCells:
    """Cells that are read when indexed, at their places in the shards.

    Args:
        extensions: of the columns that are files; others are keys of the .json file.
    """

    def __init__(
        self, parts: Parts, shards: Mapping[Path, Shard], extensions: Mapping[str, str]
    ) -> None:
        self._parts, self._shards, self._extensions = parts, shards, extensions

    def read(self, column: str, row: int) -> Any:
        """The cell of a row."""
        part, sample = self._parts.find(row)
        shard = self._shards[part.path]
        extension = self._extensions.get(column, JSON)
        content = shard.read(extension, sample)
        if column not in self._extensions:
            return _json_cells(content)[column]
        return FileContent(content, f"{shard.path.name}/{shard.keys[sample]}.{extension}")


def _json_cells(content: bytes | None) -> dict[str, Any]:
    """The cells of a sample's .json file. ValueError says what is wrong."""
    if content is None:
        return {}
    try:
        return parse_json_cells(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error


def _expand_braces(path: Path) -> Iterable[Path]:
    from braceexpand import braceexpand

    try:
        return [path] if path.exists() else map(Path, braceexpand(str(path)))
    except ValueError as error:
        raise DataError(f"{path}: its braces are unbalanced") from error


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [WebDataset]
