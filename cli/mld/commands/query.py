"""`mld score`, `mld impute` and `mld information`: what a finished run knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from mld.commands.common import AsJson, command, open_run

WORST = 10
"""How many rows a terminal is shown."""

RunFolder = Annotated[Path, typer.Argument(help="a finished run's directory")]
ManifestFile = Annotated[
    Path, typer.Argument(help="a .csv or .jsonl file with columns of the run's modalities")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed, the same results.")]
Gallery = Annotated[int, typer.Option(min=0, help="Rows shown on the page.")]


@command
def score(
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A .csv or .jsonl file; <manifest>.scores.csv here if not given."),
    ] = None,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say for each row how well its modalities belong together, the worst first."""
    out = out or Path(f"{manifest.stem}.scores.csv")
    if out.suffix.lower() not in (".csv", ".jsonl"):
        raise typer.BadParameter(f"--out must be named *.csv or *.jsonl, not {out}")
    from mld.inference.score import write_page, write_scores

    loaded = open_run(run)
    manifest_rows = loaded.manifest_rows(manifest)
    scores = loaded.score(manifest_rows, seed=seed)
    write_scores(out, scores)
    page = out.with_suffix(".html")
    write_page(page, scores, manifest_rows, loaded.modalities, gallery)
    if as_json:
        typer.echo(json.dumps([own.flat() for own in scores]))
        return
    for own in scores[:WORST]:
        told = (
            "–"
            if own.mean_pairwise_pmi is None
            else f"{own.mean_pairwise_pmi[0]:+8.2f} ± {own.mean_pairwise_pmi[1]:.2f} nats"
        )
        typer.echo(f"{told}  {own.id}")
    empty = len(manifest_rows.ids) - len(scores)
    left_out = f" ({empty} without any datum left out)" if empty else ""
    typer.echo(f"{len(scores)} rows{left_out} in {out}, the worst of them on {page}", err=True)


@command
def impute(
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[Path, typer.Option(help="The folder of the new manifest and its files.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Alternatives for each empty cell.")] = 1,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fill a manifest's empty cells from what each row has; the same command again goes on."""
    from mld.inference.impute import read_filled, write_page

    loaded = open_run(run)
    manifest_rows = loaded.manifest_rows(manifest)
    scheme = loaded.model.scheme
    if not loaded.model.has_marginals:
        typer.echo(
            f"{run}: roles: {scheme} teaches no marginals, so cells are filled without guidance: "
            "train with roles: three-role for guidance",
            err=True,
        )
    filled_manifest = loaded.impute(manifest_rows, out, n, seed=seed)
    filled = read_filled(out)
    write_page(out / "report.html", filled, manifest_rows, loaded.modalities, gallery)
    if as_json:
        typer.echo(json.dumps({"manifest": str(filled_manifest), "cells": filled}))
        return
    joint = len({told["id"] for told in filled if told["joint"]})
    typer.echo(filled_manifest)
    typer.echo(
        f"{len(filled)} cells filled, {joint} rows generated jointly; {out / 'report.html'}",
        err=True,
    )


@command
def information(
    run: RunFolder,
    of: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="A,B;C|D", help="Ask for I(A, B; C | D) too; may be repeated."),
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Test rows used, at most.")] = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Say how much the modalities tell about each other, in nats, here and in the run's report."""
    from mld.inference.information import as_json as plain
    from mld.pipeline.run import report
    from mld.storage.digests import file_digest

    loaded = open_run(run)
    estimates = loaded.information(of or (), rows=rows, seed=seed)
    told = plain(estimates, loaded.model, file_digest(loaded.run_dir.ema))
    loaded.run_dir.write_json(loaded.run_dir.information, told)
    told_in = (
        report(loaded.run_dir) if loaded.run_dir.has("evaluate") else loaded.run_dir.information
    )
    if as_json:
        typer.echo(json.dumps(told))
        return
    width = max(map(len, estimates))
    for name, own in estimates.items():
        typer.echo(f"{name:{width}}  {own.value:8.3f} ± {own.standard_error:.3f} nats")
    typer.echo(f"h is of standardised latents; {told_in}", err=True)
