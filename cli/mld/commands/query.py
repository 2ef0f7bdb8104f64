"""`mld score`, `mld impute` and `mld information`: queries of a finished run."""

from __future__ import annotations

import json
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
    check_table_name,
    command,
    open_run,
    repeatable,
    resumable,
)

MAX_ROWS_PRINTED = 10
SHOWN_LEVEL = 0.8
"""The level of the regions whose coverage is printed."""

ManifestFile = Annotated[
    Path, typer.Argument(help="a .csv, .tsv or .jsonl file with columns of the run's modalities")
]
Gallery = Annotated[int, typer.Option(min=0, help="Rows shown on the page.")]


@command
def score(
    context: typer.Context,
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[
        Path | None,
        typer.Option(help="A .csv, .tsv or .jsonl file (default: <manifest>.scores.csv)."),
    ] = None,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score how well the modalities of each row match, by mean pairwise PMI, worst first.

    The columns are id, label, suspect (the cell that fits the others worst), total_correlation,
    mean_pairwise_pmi, pmi:A+B for each pair and log_density:A for each modality, in nats; columns
    with _se hold their standard errors.
    """
    out = out or Path(f"{manifest.stem}.scores.csv")
    check_table_name(out, "--out")
    page = out.with_suffix(".html")
    from mld.inference.manifest import read_manifest
    from mld.inference.score import MAIN_COLUMNS, PAGE_TITLE, write_page, write_scores
    from mld.inference.score import score as score_rows
    from mld.storage.outputs import check_file

    check_file(out, [manifest], recognise=MAIN_COLUMNS)
    check_file(page, [manifest], recognise=[PAGE_TITLE])
    trained_run = open_run(run, context.obj.registry())
    rows = read_manifest(trained_run, manifest)
    scores = score_rows(trained_run, rows, seed=seed)
    write_scores(out, scores)
    write_page(page, trained_run, scores, rows, gallery)
    if as_json:
        typer.echo(json.dumps([row.record() for row in scores]))
        return
    for row in scores[:MAX_ROWS_PRINTED]:
        pmi = row.mean_pairwise_pmi
        text = "–" if pmi is None else f"{pmi.value:+8.2f} ± {pmi.standard_error:.2f} nats"
        typer.echo(f"{text}  {row.id}" + (f"  suspect: {row.suspect}" if row.suspect else ""))
    empty = len(rows.ids) - len(scores)
    left_out = f" ({empty} empty rows left out)" if empty else ""
    typer.echo(f"{len(scores)} rows{left_out} in {out}, the lowest of them on {page}", err=True)


@command
def impute(
    context: typer.Context,
    run: RunFolder,
    manifest: ManifestFile,
    out: Annotated[Path, typer.Option(help="The folder for the new manifest and its files.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Samples for each empty cell.")] = 16,
    want: Annotated[
        str,
        typer.Option(
            help="Modalities to fill, comma-separated; new ones become columns (default: all that"
            " are columns)."
        ),
    ] = "",
    draw: Annotated[
        bool, typer.Option("--draw", help="Fill cells with one sample, not the best estimate.")
    ] = False,
    held_out: Annotated[
        int,
        typer.Option(min=0, help="Test rows of the run by which the estimates are checked."),
    ] = 200,
    guidance: Annotated[
        float,
        typer.Option(
            min=-1,
            help="Guidance weight; more than 0 makes samples more alike than is certain, less than"
            " 0 wider, where a network of few rows is too sure.",
        ),
    ] = 0.0,
    steps: Steps = None,
    sampler: Sampler = None,
    gallery: Gallery = 30,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fill a manifest's empty cells, conditioned on the others of each row; re-run to resume.

    Beside the filled manifest, estimates.csv holds figures about each filled cell (for numbers the
    median, mean, standard deviation and an 80 % interval; for categories the probabilities), and
    alternatives.jsonl its samples.
    """
    from mld.inference.imputation_page import write_page
    from mld.inference.impute import PAGE_FILE, read_filled, read_held_out
    from mld.inference.impute import impute as impute_rows
    from mld.inference.manifest import read_manifest

    check_sampling(sampler=sampler, steps=steps, guidance=guidance)
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    trained_run = open_run(run, context.obj.registry())
    rows = read_manifest(trained_run, manifest)
    with resumable():
        filled_manifest = impute_rows(
            trained_run,
            rows,
            out,
            n,
            want=wanted,
            fill="draw" if draw else "best",
            held_out=held_out,
            seed=seed,
            sampler=sampler,
            steps=steps,
            guidance=guidance,
        )
    filled, checked = read_filled(out), read_held_out(out)
    write_page(out / PAGE_FILE, trained_run, filled, checked, rows, gallery)
    if as_json:
        result = {"manifest": str(filled_manifest), "cells": filled, "held_out": checked}
        typer.echo(json.dumps(result))
        return
    typer.echo(filled_manifest)
    for name, scores in (checked or {"modalities": {}})["modalities"].items():
        for region in scores["coverage"]:
            if region["level"] == SHOWN_LEVEL:
                typer.echo(
                    f"{name}: {region['expected']:.0%} regions hold the truth in "
                    f"{region['observed']:.0%} of {scores['cells']} held-out cells",
                    err=True,
                )
    joint = len({cell["id"] for cell in filled if cell["joint"]})
    summary = f"{len(filled)} cells filled, {joint} rows generated jointly"
    typer.echo(f"{summary}; {out / PAGE_FILE}", err=True)


@command
def information(
    context: typer.Context,
    run: RunFolder,
    of: Annotated[Texts, repeatable("A,B;C|D", "Estimate I(A, B; C | D) too")] = None,
    rows: Annotated[int, typer.Option(min=2, help="Maximum number of test rows.")] = 500,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Estimate the mutual information of the modalities, in nats; also added to the report."""
    from mld.inference.information import information as estimate_information
    from mld.inference.information import write_information
    from mld.pipeline.run import report

    trained_run = open_run(run, context.obj.registry())
    run_dir = trained_run.run_dir
    run_dir.probe()
    estimates = estimate_information(trained_run, of or (), rows=rows, seed=seed)
    result = write_information(trained_run, estimates)
    written = report(run_dir) if run_dir.is_complete("evaluate") else run_dir.information
    if as_json:
        typer.echo(json.dumps(result))
        return
    width = max(map(len, estimates))
    for name, estimate in estimates.items():
        typer.echo(f"{name:{width}}  {estimate.value:8.3f} ± {estimate.half_width:.3f} nats")
    recalibrated = [e for e in estimates.values() if abs(e.recalibration) > e.half_width]
    if recalibrated:
        typer.echo(
            f"warning: recalibration on validation rows changes {len(recalibrated)} of "
            f"{len(estimates)} measures by more than their interval, which does not include it: "
            "the network is too sure of rows that it was not trained on; more of them would help",
            err=True,
        )
    note = "±: 95 % interval, with the network's error; h: entropy of standardised latents"
    typer.echo(f"{note}; {written}", err=True)
