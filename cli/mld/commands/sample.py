"""`mld sample`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld.commands.common import (
    AsJson,
    RunFolder,
    Sampler,
    Seed,
    Steps,
    Texts,
    check_sampling,
    check_table_name,
    command,
    open_run,
    parse_pairs,
    repeatable,
    resumable,
)

if TYPE_CHECKING:
    from mld.inference.sample_index import SampleIndex


@command
def sample(
    context: typer.Context,
    run: RunFolder,
    given: Annotated[
        Texts, repeatable("NAME=DATUM", "Path to a file, or the value itself for inline modalities")
    ] = None,
    given_manifest: Annotated[
        Path | None,
        typer.Option(help="A .csv, .tsv or .jsonl file: samples for each row, given its cells."),
    ] = None,
    want: Annotated[
        str, typer.Option(help="Modalities to generate, comma-separated (default: all not given).")
    ] = "",
    n: Annotated[
        int, typer.Option("-n", min=1, help="Number of samples, of each row of a manifest.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for the files (default: samples, or <table>.samples)."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="A .csv, .tsv or .jsonl file for the samples: values, and files' paths."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete other samples in the folder.")
    ] = False,
    guidance: Annotated[
        float | None, typer.Option(min=-1, help="Guidance weight (default: the run's).")
    ] = None,
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Generate modalities with a finished run, conditioned on data of others.

    Re-run to resume, or with a larger -n for more samples. The folder says in given.json what the
    samples are.
    """
    if given and given_manifest:
        raise typer.BadParameter("use either --given or --given-manifest")
    data = given_manifest or parse_pairs(given, "--given", "NAME=DATUM")
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    check_sampling(sampler=sampler, steps=steps, guidance=guidance)
    if table:
        check_table_name(table, "--table")
    from mld.inference.sample_folder import write_samples
    from mld.inference.sample_table import folder_of, sample_request

    folder = out or (folder_of(table) if table else Path("samples"))
    trained_run = open_run(run, context.obj.registry())
    request = sample_request(
        trained_run, data, wanted, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    start = time.perf_counter()
    with resumable():
        index = write_samples(request, folder, n, table=table, overwrite=overwrite)
    seconds = time.perf_counter() - start
    if table or given_manifest:
        _print_bulk(index, table or folder, seconds, as_json)
    else:
        _print_files(list(index), request.wanted, folder, seconds, as_json)


def _print_bulk(index: SampleIndex, written: Path, seconds: float, as_json: bool) -> None:
    """Print where many samples are."""
    if as_json:
        typer.echo(json.dumps({"out": str(written), "samples": len(index), "seconds": seconds}))
        return
    typer.echo(written)
    typer.echo(f"{len(index):,} samples, {seconds:.2f} s", err=True)


def _print_files(
    entries: Sequence[Mapping[str, Any]],
    wanted: Sequence[str],
    folder: Path,
    seconds: float,
    as_json: bool,
) -> None:
    """Print the files of samples, and their cells where inline."""
    nfe = entries[0]["nfe"]
    if as_json:
        files = {name: [str(folder / entry["files"][name]) for entry in entries] for name in wanted}
        typer.echo(json.dumps({"files": files, "nfe": nfe, "seconds": seconds}))
        return
    for name in wanted:
        for entry in entries:
            cell = f"\t{entry['cells'][name]}" if name in entry["cells"] else ""
            typer.echo(f"{folder / entry['files'][name]}{cell}")
    typer.echo(f"{nfe:g} network evaluations a sample, {seconds:.2f} s", err=True)
