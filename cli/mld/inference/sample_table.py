"""Samples conditioned on the rows of a manifest, and tables of samples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from mld.config.sections import GuidanceSpec
from mld.inference.manifest import ManifestRows, encode_manifest, read_manifest
from mld.inference.sample_folder import write_samples
from mld.inference.samples import GivenRows, SampleRequest
from mld.inference.trained_run import Datum, TrainedRun
from mld_core import TABLE_NAMES, TABLE_SUFFIXES, OutputError

FOLDER_SUFFIX = ".samples"
"""In place of the table's own, the suffix of the folder beside it."""


def sample_table(
    run: TrainedRun,
    given: Mapping[str, Datum] | Path | str | ManifestRows,
    table: Path | str,
    want: Sequence[str] | None = None,
    n: int = 1,
    *,
    out: Path | str | None = None,
    overwrite: bool = False,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | GuidanceSpec | None = None,
) -> Path:
    """Write `n` samples for each row of a manifest to a CSV or JSONL table; returns its path.

    Each is conditioned on the recorded cells of its row, except those of wanted modalities. The
    columns are id, sample, and the wanted modalities: cells where inline, else paths relative to
    the table. In place of a manifest, `given` may be one datum of each given modality; there is no
    id then.

    The files, and given.json, which says what was given, are in the folder `out`, by default
    beside the table. Call it again with the same arguments to resume, or with a larger `n` for more
    samples. `want` defaults to the modalities of which nothing is given; sampler, steps and
    guidance to the run's spec.

    SpecError if the request does not fit the run, DataError if the given data do not, OutputError
    if something else is at the table's path, or in the folder and not to `overwrite`.
    """
    table = Path(table)
    if table.suffix.lower() not in TABLE_SUFFIXES:
        raise OutputError(f"{table}: a table must be named {TABLE_NAMES}")
    request = sample_request(
        run, given, want, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    folder = folder_of(table) if out is None else Path(out)
    write_samples(request, folder, n, table=table, overwrite=overwrite)
    return table


def folder_of(table: Path) -> Path:
    """The folder of a table's files and of its record, unless another is chosen."""
    return table.with_suffix(FOLDER_SUFFIX)


def sample_request(
    run: TrainedRun,
    given: Mapping[str, Datum] | Path | str | ManifestRows,
    want: Sequence[str] | None = None,
    *,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | GuidanceSpec | None = None,
) -> SampleRequest:
    """A request for samples given one datum of each of some modalities, or a manifest's rows.

    Warns of rows in which nothing is recorded that samples are conditioned on.
    """
    if isinstance(given, Mapping):
        return run.sample_request(
            given, want, seed=seed, sampler=sampler, steps=steps, guidance=guidance
        )
    run.check_names(want or ())
    rows = read_manifest(run, given, unread=want or ())
    if empty := int((~rows.present.any(1)).sum()):
        warnings.warn(
            f"{rows.path}: {empty} of {len(rows.ids)} rows have no cell to condition samples on: "
            "theirs are joint samples",
            stacklevel=2,
        )
    return run.request_for_rows(
        GivenRows(rows.items, encode_manifest(run, rows), rows.present, rows.ids),
        want,
        run.generator_with(sampler, steps, guidance),
        seed,
        given={"manifest": str(rows.path), "rows": len(rows.ids)},
        inputs=[rows.path],
    )
