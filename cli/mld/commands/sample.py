"""`mld sample`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from mld.commands.common import AsJson, command, open_run, pair


@command
def sample(
    run: Annotated[Path, typer.Argument(help="a finished run's directory")],
    given: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=DATUM", help="A file, or the datum itself where inline."),
    ] = None,
    want: Annotated[
        str, typer.Option(help="Modalities to generate, by commas; all others if not given.")
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("samples"),
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="Strength of guidance; the run's if not given."),
    ] = None,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Steps of the solver; the run's if not given."),
    ] = None,
    sampler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The solver; the run's if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Generate modalities of a finished run, given data for some of the others."""
    pairs = dict(pair(told) for told in given or [])
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    loaded = open_run(run)
    made = loaded.sample(
        pairs, wanted, n, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    files = {name: [str(path) for path in paths] for name, paths in made.write(out).items()}
    if as_json:
        told = {"files": files, "nfe": made.nfe, "seconds": made.seconds}
        typer.echo(json.dumps(told))
        return
    for name, paths in files.items():
        inline = loaded.modalities[name].inline
        for row, path in enumerate(paths):
            typer.echo(f"{path}\t{made.cells(name)[row]}" if inline else path)
    typer.echo(f"{made.nfe:g} network evaluations a sample, {made.seconds:.2f} s", err=True)
