"""A manifest read against a finished run: its rows as tensors, and its cells as in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mld.data.columns import PLUGIN_ERRORS, Column, format_item_errors, open_split
from mld.data.encoding import encode_present
from mld.data.loading import layout_of
from mld.inference.trained_run import TrainedRun
from mld_core import (
    SPLITS,
    DataError,
    Dataset,
    Modality,
    Registry,
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
        columns: names of all columns, in order.
        cells: the cells of each row, by column.
        ids: the id of each row, "file name:line" without an `id` column.
        items: by modality of the run, "row *item", zeros where missing; no entry for a modality
            without any item.
        present: True where the item is not missing; modalities in the run's order.
        labels: the label of each row as in the file, "" without one.
    """

    path: Path
    columns: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    ids: tuple[str, ...]
    items: Mapping[str, Shaped[Tensor, " row *item"]]
    present: Bool[Tensor, "row modality"]
    labels: tuple[str, ...]


def read_manifest(run: TrainedRun, manifest: Path | str | ManifestRows) -> ManifestRows:
    """Read a manifest with columns for some of a run's modalities; rows already read pass through.

    DataError if a column is misspelt, none is a modality, or the file or an item cannot be read.
    """
    if isinstance(manifest, ManifestRows):
        return manifest
    path, modalities = Path(manifest), run.modalities
    table = read_table(path)
    raise_line_errors(path, table.errors)
    unused_columns(table, modalities)
    used = {name: modality for name, modality in modalities.items() if name in table.columns}
    if not used:
        raise DataError(f"{path}: no column is a modality of the run ({', '.join(modalities)})")
    dataset = _open(path, used, run.registry)
    row_of = {table.row_id(row): index for index, row in enumerate(table.rows)}
    present = torch.zeros(len(table.rows), len(modalities), dtype=torch.bool)
    items: dict[str, Tensor] = {}
    errors: list[str] = []
    for split_name in SPLITS:
        split = open_split(dataset, split_name, used)
        rows = torch.tensor([row_of[row_id] for row_id in split.ids], dtype=torch.int64)
        for index, (name, modality) in enumerate(modalities.items()):
            if name not in used or not len(rows):
                continue
            column = Column(split, name, dataset.kind).load(modality, f"read {name}")
            present[rows, index] = column.present
            errors += column.errors
            if column.items is not None:
                zeros = column.items.new_zeros((len(table.rows), *column.items.shape[1:]))
                items.setdefault(name, zeros)[rows] = column.items
    if errors:
        raise DataError(format_item_errors(str(path), errors))
    return ManifestRows(
        path,
        table.columns,
        tuple(row.cells for row in table.rows),
        tuple(row_of),
        items,
        present,
        tuple(row.label for row in table.rows),
    )


def rows_by_modalities(
    rows: ManifestRows, names: Sequence[str]
) -> Iterator[tuple[list[str], Tensor]]:
    """The rows in which the same of these modalities are present: their names, and the indices."""
    for pattern in rows.present.unique(dim=0):
        row_names = [name for name, has in zip(names, pattern.tolist(), strict=True) if has]
        yield row_names, torch.nonzero((rows.present == pattern).all(1)).squeeze(1)


def encode_manifest(run: TrainedRun, rows: ManifestRows) -> dict[str, Tensor]:
    """Raw latents of a manifest's items by modality, "row latent"; zeros where missing."""
    dims = layout_of(run.modalities).dims
    return encode_present(run.autoencoders, dims, rows.items, rows.present)


def format_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a CSV or JSONL file, by the path's suffix; an absent JSONL cell stays absent."""
    if path.suffix.lower() != ".csv":
        return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    buffer = io.StringIO(newline="")
    # The csv module does not quote a lone carriage return, yet reads it as the end of the row.
    quote_all = any("\r" in str(cell) for row in rows for cell in row.values())
    writer = csv.DictWriter(
        buffer,
        columns,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL,
    )
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _open(path: Path, modalities: Mapping[str, Modality], registry: Registry) -> Dataset:
    plugin_class = registry.dataset("manifest")
    try:
        config = plugin_class.Config.model_validate({"path": path})
        with plugin_call(f"kind {plugin_class.kind!r}: the constructor", passes=PLUGIN_ERRORS):
            return plugin_class(config, modalities, 0)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error
