"""pandas DataFrames in the place of manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mld.inference.impute import (
    DEFAULT_DRAWS,
    ESTIMATES_FILE,
    impute,
    wanted_modalities,
)
from mld.inference.manifest import ManifestRows, read_manifest
from mld.inference.trained_run import TrainedRun
from mld_core import DataError, SpecError, read_table

if TYPE_CHECKING:
    from pandas import DataFrame

FRAME_FILE = "frame.jsonl"
"""What a DataFrame is called where a manifest has a file name."""


def read_frame(run: TrainedRun, frame: DataFrame) -> ManifestRows:
    """The rows of a DataFrame, for `mld.score`, `mld.impute` and `mld.log_density`.

    NaN, NaT, NA and None are empty cells. Without a column `id` the index names the rows. Paths of
    files are relative to the working directory. DataError as of `read_manifest`.
    """
    rows: list[dict[str, Any]] = [
        {str(column): _plain(cell) for column, cell in row.items() if cell is not None}
        for row in frame.astype(object).where(frame.notna(), None).to_dict("records")
    ]
    if "id" not in frame.columns:
        for row, name in zip(rows, frame.index, strict=True):
            row["id"] = str(name)
    columns = run.spec.columns
    read_columns = {*columns.values(), "id", "label"}
    files = {columns[name] for name, modality in run.modalities.items() if not modality.inline}
    with TemporaryDirectory() as folder:
        path = Path(folder) / FRAME_FILE
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                cells = {name: cell for name, cell in row.items() if name in read_columns}
                absolute = {name: str(Path(row[name]).absolute()) for name in files & row.keys()}
                file.write(json.dumps({**cells, **absolute}) + "\n")
        try:
            read = read_manifest(run, path)
        except DataError as error:
            raise DataError(str(error).replace(f"{folder}/", "")) from error
    names = {column: name for name, column in columns.items()}
    return replace(
        read,
        path=Path.cwd() / FRAME_FILE,
        columns=tuple(names.get(str(column), str(column)) for column in frame.columns),
        cells=tuple({names.get(name, name): cell for name, cell in row.items()} for row in rows),
    )


def impute_frame(
    run: TrainedRun,
    frame: DataFrame,
    n: int = DEFAULT_DRAWS,
    *,
    want: Sequence[str] | None = None,
    out: Path | str | None = None,
    **settings: Any,
) -> tuple[DataFrame, DataFrame]:
    """A copy of a DataFrame with its empty cells filled, and the table of estimates.

    As `mld.impute`, whose other settings it takes. The estimates have a row for each filled cell,
    with its `id` and `modality`. Results are written to the folder `out` too, which is needed
    where a modality has files (SpecError): the cells are then paths in it.
    """
    import pandas as pd

    rows = read_frame(run, frame)
    wanted = wanted_modalities(run, rows, want)
    files = [name for name in wanted if not run.modalities[name].inline]
    if files and out is None:
        raise SpecError(f"out: name a folder for the files of {', '.join(files)}")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "imputed" if out is None else Path(out)
        manifest = impute(run, rows, folder, n, want=want, **settings)
        estimates = pd.read_csv(folder / ESTIMATES_FILE, dtype={"id": str, "estimate": str})
        filled_rows = [row.cells for row in read_table(manifest).rows]
    filled = frame.copy()
    for name in wanted:
        column = run.spec.columns[name]
        cells = [
            old.get(name, str(folder / new[column]) if name in files else new[column])
            for old, new in zip(rows.cells, filled_rows, strict=True)
        ]
        values = pd.Series(cells, index=frame.index, dtype=object)
        filled[column] = values.infer_objects()
    return filled, estimates


def _plain(cell: Any) -> Any:
    """A cell as JSON has it: numbers of NumPy as those of Python, anything else as text."""
    cell = cell.item() if hasattr(cell, "item") else cell
    return cell if isinstance(cell, str | int | float | bool) else str(cell)
