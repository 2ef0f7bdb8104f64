"""A manifest read against a finished run: its rows as tensors, and its cells as they were told."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from pydantic import ValidationError
from torch import Tensor

from mld.config.validation_errors import did_you_mean
from mld.data.columns import Column, format_item_errors, open_split, plugin_call
from mld_core import DataError, Dataset, Modality, Registry, SplitName

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
RESERVED = ("id", "label", "split")


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
    bare = _open(path, {}, registry)
    columns, table = _table(path)
    foreign = [name for name in columns if name not in modalities and name not in RESERVED]
    known = ", ".join([*modalities, *RESERVED])
    if foreign:
        told = "; ".join(f"{name!r}{did_you_mean(name, modalities)}" for name in foreign)
        raise DataError(f"{path}: unknown column {told} (the run knows {known})")
    used = {name: modality for name, modality in modalities.items() if name in columns}
    if not used:
        raise DataError(f"{path}: no column is a modality of the run ({', '.join(modalities)})")
    dataset = _open(path, used, registry) if used else bare
    named = "id" in columns
    places = {
        str(cells["id"]) if named else f"{path.name}:{line}": place
        for place, (line, cells) in enumerate(table)
    }
    present = torch.zeros(len(table), len(modalities), dtype=torch.bool)
    items: dict[str, Tensor] = {}
    faults: list[str] = []
    for split_name in SPLITS:
        split = open_split(dataset, split_name, used)
        rows = torch.tensor([places[own] for own in split.ids], dtype=torch.int64)
        for index, (name, modality) in enumerate(modalities.items()):
            if name not in used or not len(rows):
                continue
            here = torch.zeros(len(rows), dtype=torch.bool)
            loaded = Column(split, name, dataset.kind, modality).load(here, faults, told=name)
            present[rows, index] = here
            if loaded is not None:
                whole = loaded.new_zeros((len(table), *loaded.shape[1:]))
                items.setdefault(name, whole)[rows] = loaded
    if faults:
        raise DataError(format_item_errors(str(path), faults))
    return ManifestRows(
        path,
        columns,
        tuple(cells for _, cells in table),
        tuple(places),
        items,
        present,
        tuple(str(cells.get("label") or "") for _, cells in table),
    )


def _open(path: Path, modalities: Mapping[str, Modality], registry: Registry) -> Dataset:
    plugin_class = registry.dataset("manifest")
    try:
        config = plugin_class.Config.model_validate({"path": path})
        with plugin_call(plugin_class.kind, "the constructor"):
            return plugin_class(config, modalities, 0)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}: {told}") from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {error}") from error


def _table(path: Path) -> tuple[tuple[str, ...], list[tuple[int, dict[str, Any]]]]:
    """All columns, and each row with its line; the dataset has found nothing wrong here."""
    text = path.read_bytes().decode("utf-8-sig")
    rows = list(_csv_rows(text) if path.suffix.lower() == ".csv" else _json_rows(text))
    return tuple(dict.fromkeys(name for _, cells in rows for name in cells)), rows


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    line = 1
    for cells in reader:
        if not header:
            header = cells
        elif cells:
            yield line, dict(zip(header, cells, strict=True))
        line = reader.line_num + 1


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, told in enumerate(text.split("\n"), 1):
        if told.strip():
            yield line, json.loads(told)


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
