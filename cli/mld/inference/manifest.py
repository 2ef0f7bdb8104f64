"""A manifest read against a finished run: its rows as tensors, and its cells as in the file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mld.data.columns import (
    PLUGIN_ERRORS,
    Column,
    ColumnItems,
    invalid_items,
    open_split,
)
from mld.data.encoding import encode_present
from mld.data.faults import Fault, InvalidItemsError, list_faults
from mld.data.item_memory import packed_item_bytes
from mld.data.item_places import ItemPlaces, temporary_places
from mld.data.loading import layout_of
from mld.data.packed_items import Items
from mld.data.renamed_columns import DatasetWithRenamedColumns
from mld.data.stored_rows import MappedTensor
from mld.inference.trained_run import TrainedRun
from mld.storage.table_file import write_table
from mld_core import (
    SPLITS,
    DataError,
    Dataset,
    Modality,
    Registry,
    Split,
    plugin_call,
    raise_line_errors,
    read_table,
    unused_columns,
)


@dataclass(frozen=True)
class ManifestRows:
    """The rows of a manifest, in its order.

    Args:
        path: the manifest.
        columns: names of all columns, in order; those that the run reads have its modalities'.
        cells: the cells of each row, by these names.
        ids: the id of each row, "file name:line" without an `id` column.
        items: by modality of the run; no entry for a modality without any item.
        present: True where the item is not missing; modalities in the run's order.
        labels: the label of each row as in the file, "" without one.
        sha256: hex digest of the manifest's bytes.
        names: the name in the file of each column that has another.
        separator: between the cells of a CSV file.
    """

    path: Path
    columns: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    ids: tuple[str, ...]
    items: Mapping[str, Items]
    present: Bool[Tensor, "row modality"]
    labels: tuple[str, ...]
    sha256: str
    names: Mapping[str, str] = field(default_factory=dict)
    separator: str = ","

    def write(self, path: Path, added: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows in the manifest's form, with further columns after its own."""

        def name(column: str) -> str:
            return self.names.get(column, column)

        columns = [name(column) for column in [*self.columns, *added]]
        renamed = ({name(column): cell for column, cell in row.items()} for row in rows)
        write_table(path, columns, renamed, self.separator)


def read_manifest(
    run: TrainedRun, manifest: Path | str | ManifestRows, unread: Collection[str] = ()
) -> ManifestRows:
    """Read a manifest with columns for some of a run's modalities; rows already read pass through.

    Cells of the modalities `unread` count as empty, as do those that cannot be used, with a
    warning, unless they are errors in the run's spec. DataError if a column is misspelt, none is a
    modality that is read, or the file or an item cannot be read.
    """
    if isinstance(manifest, ManifestRows):
        return _without(manifest, list(run.modalities), unread)
    path, modalities = Path(manifest), run.modalities
    columns = run.spec.columns
    table = read_table(path)
    raise_line_errors(path, table.errors)
    table = table.renamed({column: name for name, column in columns.items() if name != column})
    unused_columns(path, table.columns, modalities)
    read = {name: modality for name, modality in modalities.items() if name not in unread}
    used = {name: modality for name, modality in read.items() if name in table.columns}
    if not used:
        names = ", ".join(read)
        raise DataError(f"{path}: no column is a modality of the run that is read ({names})")
    ignored = [columns[name] for name in unread if name in table.columns]
    dataset = _open(path, used, columns, ignored, run.registry)
    ids = tuple(table.row_id(row) for row in table.rows)
    split = _all_rows(dataset, used, ids)
    present = torch.zeros(len(ids), len(modalities), dtype=torch.bool)
    items: dict[str, Items] = {}
    faults: list[Fault] = []
    items_read: Counter[str] = Counter()
    with temporary_places(run.spec.compute.items, len(ids), run.store) as places:
        for index, (name, modality) in enumerate(modalities.items()):
            if name not in used or not ids:
                continue
            column = Column(split, path.name, name, dataset.kind)
            read_column = _read(column, modality, places)
            present[:, index] = read_column.present
            faults += read_column.faults
            items_read[name] += read_column.count
            if isinstance(read_column.packed, Tensor):
                items[name] = Items.of(modality, read_column.packed, read_column.present)
    if faults and run.spec.data.on_invalid == "error":
        raise InvalidItemsError(faults, items_read, "correct them, or leave their cells empty")
    if faults:
        head = (
            f"{path}: {len(faults):,} cells that cannot be used count as empty, as the run's "
            f"data.on_invalid: {run.spec.data.on_invalid} says"
        )
        warnings.warn(list_faults(head, faults, items_read), stacklevel=2)
    return ManifestRows(
        path,
        table.columns,
        tuple(row.cells for row in table.rows),
        ids,
        items,
        present,
        tuple(row.label for row in table.rows),
        table.sha256,
        {name: column for name, column in columns.items() if name != column},
        table.separator,
    )


def _all_rows(dataset: Dataset, names: Iterable[str], ids: Sequence[str]) -> Split:
    """The rows of all splits together, in the order of `ids`."""
    splits = [open_split(dataset, name, names) for name in SPLITS]
    place = {row_id: (split, row) for split in splits for row, row_id in enumerate(split.ids)}
    invalid: dict[str, dict[int, str]] = {name: {} for name in names}
    for index, row_id in enumerate(ids):
        split, row = place[row_id]
        for name, reasons in invalid.items():
            if reason := invalid_items(split, name).get(row):
                reasons[index] = reason
    items = {
        name: _Cells([(place[row_id][0].items[name], place[row_id][1]) for row_id in ids])
        for name in names
    }
    return Split(ids, items, invalid=invalid)


class _Cells(Sequence[Any]):
    """The cells of one column in the rows of several splits, read when indexed.

    Args:
        places: for each row, the cells of its split and its index among them.
    """

    def __init__(self, places: Sequence[tuple[Sequence[Any], int]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: Any) -> Any:
        cells, index = self._places[row]
        return cells[index]


def _read(column: Column, modality: Modality, places: ItemPlaces) -> ColumnItems:
    """The items of a column, in memory or mapped from a file, which may then be deleted."""
    item_bytes = packed_item_bytes(column, modality)
    with places.sink(column, modality, item_bytes) as sink:
        items = column.load(modality, f"read {column.name}", sink)
    if isinstance(items.packed, MappedTensor):
        return replace(items, packed=items.packed.tensor)
    return items


def _without(rows: ManifestRows, names: Sequence[str], unread: Collection[str]) -> ManifestRows:
    present = rows.present.clone()
    present[:, [index for index, name in enumerate(names) if name in unread]] = False
    items = {name: x for name, x in rows.items.items() if name not in unread}
    return replace(rows, items=items, present=present)


def encode_manifest(run: TrainedRun, rows: ManifestRows) -> dict[str, Tensor]:
    """Raw latents of a manifest's items by modality, "row latent"; zeros where missing."""
    dims = layout_of(run.modalities).dims
    latents = {name: torch.zeros(len(rows.present), width) for name, width in dims.items()}
    for name, index, part in encode_present(run.autoencoders, rows.items, rows.present):
        latents[name][index] = part
    return latents


def _open(
    path: Path,
    modalities: Mapping[str, Modality],
    columns: Mapping[str, str],
    ignored: Sequence[str],
    registry: Registry,
) -> Dataset:
    plugin_class = registry.dataset("manifest")
    by_column = {columns[name]: modality for name, modality in modalities.items()}
    try:
        config = plugin_class.Config.model_validate({"path": path, "ignore": ignored})
        with plugin_call(f"kind {plugin_class.kind!r}: the constructor", passes=PLUGIN_ERRORS):
            dataset = plugin_class(config, by_column, 0)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error
    return DatasetWithRenamedColumns(dataset, modalities, columns)
