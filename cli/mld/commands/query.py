"""`mld score`, `mld impute` and `mld information`: queries of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from mld.commands.common import AsJson, command, open_run

MAX_ROWS_PRINTED = 10

RunFolder = Annotated[Path, typer.Argument(help="a finished run's directory")]
ManifestFile = Annotated[
    Path, typer.Argument(help="a .csv or .jsonl file with columns of the run's modalities")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Gallery = Annotated[int, typer.Option(min=0, help="Rows shown on the page.")]


@command
def score(
    context: typer.Context,
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads annotations on Python 3.11)
        typer.Option(help="A .csv or .jsonl file (default: <manifest>.scores.csv)."),
    ] = None,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score how well the modalities of each row match, worst first."""
    out = out or Path(f"{manifest.stem}.scores.csv")
    if out.suffix.lower() not in (".csv", ".jsonl"):
        raise typer.BadParameter(f"--out must be named *.csv or *.jsonl, not {out}")
    from mld.inference.score import write_page, write_scores

    loaded = open_run(run, context.obj.registry())
    manifest_rows = loaded.manifest_rows(manifest)
    scores = loaded.score(manifest_rows, seed=seed)
    write_scores(out, scores)
    page = out.with_suffix(".html")
    write_page(page, scores, manifest_rows, loaded.modalities, gallery)
    if as_json:
        typer.echo(json.dumps([row.flat() for row in scores]))
        return
    for row in scores[:MAX_ROWS_PRINTED]:
        pmi = row.mean_pairwise_pmi
        text = "–" if pmi is None else f"{pmi[0]:+8.2f} ± {pmi[1]:.2f} nats"
        typer.echo(f"{text}  {row.id}")
    empty = len(manifest_rows.ids) - len(scores)
    left_out = f" ({empty} empty rows left out)" if empty else ""
    typer.echo(f"{len(scores)} rows{left_out} in {out}, the worst of them on {page}", err=True)


@command
def impute(
    context: typer.Context,
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="The folder for the new manifest and its files.")
    ],
    n: Annotated[int, typer.Option("-n", min=1, help="Samples for each empty cell.")] = 1,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fill a manifest's empty cells, conditioned on the others of each row; re-run to resume."""
    from mld.inference.impute import read_filled, write_page

    loaded = open_run(run, context.obj.registry())
    manifest_rows = loaded.manifest_rows(manifest)
    scheme = loaded.model.scheme
    if not loaded.model.has_marginals:
        typer.echo(
            f"{run}: a model trained with roles: {scheme} has no marginals, so cells are filled "
            "without guidance; train with roles: three-role for guidance",
            err=True,
        )
    filled_manifest = loaded.impute(manifest_rows, out, n, seed=seed)
    filled = read_filled(out)
    write_page(out / "report.html", filled, manifest_rows, loaded.modalities, gallery)
    if as_json:
        typer.echo(json.dumps({"manifest": str(filled_manifest), "cells": filled}))
        return
    joint = len({cell["id"] for cell in filled if cell["joint"]})
    typer.echo(filled_manifest)
    typer.echo(
        f"{len(filled)} cells filled, {joint} rows generated jointly; {out / 'report.html'}",
        err=True,
    )


@command
def information(
    context: typer.Context,
    run: RunFolder,
    of: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="A,B;C|D", help="Estimate I(A, B; C | D) too; may be repeated."),
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Maximum number of test rows.")] = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate the mutual information of the modalities, in nats; also added to the report."""
    from mld.inference.information import as_json as to_dict
    from mld.pipeline.run import report
    from mld.storage.digests import file_digest

    loaded = open_run(run, context.obj.registry())
    run_dir = loaded.run_dir
    estimates = loaded.information(of or (), rows=rows, seed=seed)
    result = to_dict(estimates, loaded.model, file_digest(run_dir.ema))
    run_dir.write_json(run_dir.information, result)
    written = report(run_dir) if run_dir.is_complete("evaluate") else run_dir.information
    if as_json:
        typer.echo(json.dumps(result))
        return
    width = max(map(len, estimates))
    for name, estimate in estimates.items():
        typer.echo(f"{name:{width}}  {estimate.value:8.3f} ± {estimate.standard_error:.3f} nats")
    typer.echo(f"h is the entropy of standardised latents; {written}", err=True)
