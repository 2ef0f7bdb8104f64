"""A manifest read against a finished run: its rows as tensors, and its cells as they were told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mld.data.columns import PLUGIN_ERRORS, Column, format_item_errors, open_split
from mld_core import (
    RESERVED_COLUMNS,
    SPLITS,
    DataError,
    Dataset,
    Modality,
    Registry,
    did_you_mean,
    plugin_call,
    raise_line_errors,
    read_table,
)


@dataclass(frozen=True)
class ManifestRows:
    """The rows of a manifest, in its order.

    Args:
        path: the manifest.
        columns: all columns, in order.
        cells: what each row says, by column.
        ids: the name of each row.
        items: by modality of the run, "row *item", zeros where missing; no entry for a modality
            with no item at all.
        present: True where recorded, columns in the run's order.
        labels: the label of each row as told, "" without one.
    """

    path: Path
    columns: tuple[str, ...]
    cells: tuple[Mapping[str, Any], ...]
    ids: tuple[str, ...]
    items: Mapping[str, Shaped[Tensor, " row *item"]]
    present: Bool[Tensor, "row modality"]
    labels: tuple[str, ...]


def read_manifest(
    path: Path, modalities: Mapping[str, Modality], registry: Registry
) -> ManifestRows:
    """A manifest with columns for some of a run's modalities.

    DataError where a column is unknown, none is usable, or the file or an item cannot be read.
    """
    table = read_table(path)
    raise_line_errors(path, table.errors)
    modality_columns = [name for name in table.columns if name not in RESERVED_COLUMNS]
    unknown = [name for name in modality_columns if name not in modalities]
    if unknown:
        names = "; ".join(f"{name!r}{did_you_mean(name, modalities)}" for name in unknown)
        available = ", ".join([*modalities, *RESERVED_COLUMNS])
        raise DataError(f"{path}: unknown column {names} (the run has {available})")
    used = {name: modality for name, modality in modalities.items() if name in modality_columns}
    if not used:
        raise DataError(f"{path}: no column is a modality of the run ({', '.join(modalities)})")
    dataset = _open(path, used, registry)
    has_ids = "id" in table.columns
    row_of = {
        str(row.cells["id"]) if has_ids else f"{path.name}:{row.line}": index
        for index, row in enumerate(table.rows)
    }
    present = torch.zeros(len(table.rows), len(modalities), dtype=torch.bool)
    items: dict[str, Tensor] = {}
    errors: list[str] = []
    for split_name in SPLITS:
        split = open_split(dataset, split_name, used)
        rows = torch.tensor([row_of[row_id] for row_id in split.ids], dtype=torch.int64)
        for index, (name, modality) in enumerate(modalities.items()):
            if name not in used or not len(rows):
                continue
            split_present = torch.zeros(len(rows), dtype=torch.bool)
            column = Column(split, name, dataset.kind, modality)
            loaded = column.load(split_present, errors, progress_label=name)
            present[rows, index] = split_present
            if loaded is not None:
                zeros = loaded.new_zeros((len(table.rows), *loaded.shape[1:]))
                items.setdefault(name, zeros)[rows] = loaded
    if errors:
        raise DataError(format_item_errors(str(path), errors))
    return ManifestRows(
        path,
        table.columns,
        tuple(row.cells for row in table.rows),
        tuple(row_of),
        items,
        present,
        tuple(str(row.cells.get("label") or "") for row in table.rows),
    )


def _open(path: Path, modalities: Mapping[str, Modality], registry: Registry) -> Dataset:
    plugin_class = registry.dataset("manifest")
    try:
        config = plugin_class.Config.model_validate({"path": path})
        with plugin_call(f"kind {plugin_class.kind!r}: the constructor", passes=PLUGIN_ERRORS):
            return plugin_class(config, modalities, 0)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error


def write_table(path: Path, columns: tuple[str, ...], rows: list[Mapping[str, Any]]) -> str:
    """The text of a CSV or JSONL file, by the path's suffix; an absent JSONL cell stays absent."""
    if path.suffix.lower() != ".csv":
        return "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    told = io.StringIO(newline="")
    # The csv module leaves a lone carriage return bare, and reads it as the end of the row.
    bare = any("\r" in str(cell) for row in rows for cell in row.values())
    quoting = csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(told, columns, lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return told.getvalue()
