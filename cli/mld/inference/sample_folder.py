"""Samples of a request in a folder, and in a table: written batch by batch, and resumable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mld.data.items import json_cell
from mld.inference.sample_index import INDEX_FILE, SampleIndex
from mld.inference.samples import GIVEN_FILE, SampleRequest
from mld.runtime.progress import counting
from mld.storage.digests import differences
from mld.storage.files import load_checksummed_json, with_checksum, write_json
from mld.storage.outputs import check_file, claimed, clear_folder, is_occupied
from mld.storage.table_file import is_json_lines, write_table
from mld_core import OutputError, RunDirError

CONTENT = "samples"
"""What the mark of a folder of samples says that it holds."""
UNCOMPARED = ("fingerprint", "mld")
"""What given.json holds that is not told as a difference between two requests."""


def write_samples(
    request: SampleRequest,
    folder: Path,
    n: int,
    *,
    table: Path | None = None,
    overwrite: bool = False,
) -> SampleIndex:
    """Write the first `n` samples of each row to a folder; those written before are kept.

    With a `table`, a CSV or JSONL file by its suffix, each sample is a row of it: cells of inline
    modalities, which have no files then, and the paths of files relative to the table.

    OutputError if the folder holds other samples, unless they are to `overwrite`, or anything
    else, or if something else is at the table's path.
    """
    if table:
        content = ['"sample": ' if is_json_lines(table) else "sample"]
        check_file(table, request.inputs, content)
    with_files = [
        name
        for name, modality in request.modalities.items()
        if name in request.wanted and not (table and modality.inline)
    ]
    with claimed(folder, CONTENT):
        _check_request(request, folder, table, overwrite)
        index = SampleIndex(folder, request.count, n, with_files)
        _draw_missing(request, folder, n, index, inline_files=table is None)
        if table:
            row_id = [] if request.rows.ids is None else ["id"]
            wanted = [request.columns.get(name, name) for name in request.wanted]
            columns = [*row_id, "sample", *wanted]
            write_table(table, columns, _table_rows(request, folder, index, table))
    return index


def _check_request(
    request: SampleRequest, folder: Path, table: Path | None, overwrite: bool
) -> None:
    """OutputError if a folder holds samples of another request; deletes them if `overwrite`."""
    if not is_occupied(folder):
        return
    try:
        before = load_checksummed_json(folder / GIVEN_FILE)
    except RunDirError:
        before = {}
    if before.get("fingerprint") == request.fingerprint:
        return
    if overwrite:
        in_folder = {table.name} if table and table.parent.resolve() == folder.resolve() else set()
        names = {INDEX_FILE, GIVEN_FILE, *request.modalities, *before.get("want", []), *in_folder}
        clear_folder(folder, names)
        return
    old, new = (
        {key: value for key, value in record.items() if key not in UNCOMPARED}
        for record in (before, request.record())
    )
    changes = differences(old, new) if before else []
    raise OutputError(
        "\n".join(
            [
                f"{folder} holds samples of another run, request or setting: choose another "
                "folder with --out, or delete them with --overwrite",
                *changes,
            ]
        )
    )


def _draw_missing(
    request: SampleRequest, folder: Path, n: int, index: SampleIndex, inline_files: bool
) -> None:
    """Draw and write the samples that are not in the index."""
    has_ids, given_file = request.rows.ids is not None, folder / GIVEN_FILE
    with counting("sample", request.count * n, "samples") as show:
        written = len(index)
        show(written)
        for block in request.blocks(n):
            missing = {
                position: key
                for position, key in enumerate(block.keys)
                if key[1] < n and key not in index
            }
            if not missing:
                continue
            samples = request.batch(block)
            if not given_file.exists():
                write_json(given_file, with_checksum(request.record()))
            for position, (row, sample) in missing.items():
                stem = f"{row:05d}-{sample:04d}" if has_ids else f"{sample:04d}"
                entry = samples.write_sample(folder, position, stem, inline_files)
                index.append({"row": row, "sample": sample, **entry, "nfe": samples.nfe})
                written += 1
                show(written)


def _table_rows(
    request: SampleRequest, folder: Path, index: SampleIndex, table: Path
) -> Iterator[dict[str, Any]]:
    """The rows of a table in a folder: by row of the request, then by number of the sample."""
    ids, to_folder = request.rows.ids, Path(os.path.relpath(folder, table.parent))
    for entry in index:
        row = {} if ids is None else {"id": ids[entry["row"]]}
        paths = {name: (to_folder / file).as_posix() for name, file in entry["files"].items()}
        inline: dict[str, Any] = entry["cells"]
        if is_json_lines(table):
            inline = {
                name: json_cell(request.modalities[name], cell) for name, cell in inline.items()
            }
        cells = {**paths, **inline}
        named = {request.columns.get(name, name): cell for name, cell in cells.items()}
        yield {**row, "sample": entry["sample"], **named}
