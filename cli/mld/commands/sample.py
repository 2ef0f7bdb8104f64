"""`mld sample`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import (
    AsJson,
    RunFolder,
    Sampler,
    Seed,
    Steps,
    Texts,
    check_sampling,
    command,
    open_run,
    parse_pairs,
    repeatable,
    resumable,
)


@command
def sample(
    context: typer.Context,
    run: RunFolder,
    given: Annotated[
        Texts, repeatable("NAME=DATUM", "Path to a file, or the value itself for inline modalities")
    ] = None,
    want: Annotated[
        str, typer.Option(help="Modalities to generate, comma-separated (default: all not given).")
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("samples"),
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance weight (default: the run's).")
    ] = None,
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Generate modalities with a finished run, conditioned on data of others.

    Re-run to resume, or with a larger -n for more samples.
    """
    conditioning = parse_pairs(given, "--given", "NAME=DATUM")
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    check_sampling(sampler=sampler, steps=steps, guidance=guidance)
    trained_run = open_run(run, context.obj.registry())
    request = trained_run.sample_request(
        conditioning, wanted, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    start = time.perf_counter()
    with resumable():
        rows = request.write(out, n)
    seconds = time.perf_counter() - start
    if as_json:
        files = {name: [str(out / row["files"][name]) for row in rows] for name in request.wanted}
        typer.echo(json.dumps({"files": files, "nfe": rows[0]["nfe"], "seconds": seconds}))
        return
    for name in request.wanted:
        for row in rows:
            cell = f"\t{row['cells'][name]}" if name in row["cells"] else ""
            typer.echo(f"{out / row['files'][name]}{cell}")
    typer.echo(f"{rows[0]['nfe']:g} network evaluations a sample, {seconds:.2f} s", err=True)
