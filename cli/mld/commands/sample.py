"""`mld sample`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mld.commands.common import (
    AsJson,
    RunFolder,
    Seed,
    Texts,
    command,
    open_run,
    parse_pairs,
    repeatable,
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
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder for the files.")] = Path(
        "samples"
    ),
    guidance: Annotated[
        float | None, typer.Option(min=0, help="Guidance weight (default: the run's).")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Solver steps (default: the run's).")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="The solver (default: the run's).")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Generate modalities with a finished run, conditioned on data of others."""
    conditioning = parse_pairs(given, "--given", "NAME=DATUM")
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    trained_run = open_run(run, context.obj.registry())
    samples = trained_run.sample(
        conditioning, wanted, n, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    files = {name: [str(path) for path in paths] for name, paths in samples.write(out).items()}
    if as_json:
        result = {"files": files, "nfe": samples.nfe, "seconds": samples.seconds}
        typer.echo(json.dumps(result))
        return
    for name, paths in files.items():
        if trained_run.modalities[name].inline:
            cells = samples.cells(name)
            paths = [f"{path}\t{cell}" for path, cell in zip(paths, cells, strict=True)]
        typer.echo("\n".join(paths))
    typer.echo(f"{samples.nfe:g} network evaluations a sample, {samples.seconds:.2f} s", err=True)
