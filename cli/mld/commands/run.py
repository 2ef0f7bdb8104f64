"""`mld run` and `mld report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from mld.commands.common import command

if TYPE_CHECKING:
    from mld.pipeline.plan import Plan


@command
def run(
    spec: Annotated[Path, typer.Argument(help="the experiment, a YAML file")],
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations on Python 3.11)
        typer.Option("--set", metavar="A.B=C", help="Override a setting; may be repeated."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The run directory; runs/<name> if not given."),
    ] = None,
    redo: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="STAGE", help="Recompute this stage and those after it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan alone.")] = False,
) -> None:
    """Carry an experiment from its data to a report; the same command again goes on."""
    from mld.config.spec import load_spec
    from mld.storage.run_dir import STAGES, RunDir
    from mld_core import Registry

    if redo is not None and redo not in STAGES:
        raise typer.BadParameter(f"no stage {redo!r}; stages: {', '.join(STAGES)}")
    registry = Registry()
    told = load_spec(spec, registry, set_ or [])
    if dry_run:
        from mld.pipeline.plan import plan

        _print_plan(plan(told, registry))
        return
    from mld.pipeline import run as pipeline

    report = pipeline.run(told, RunDir(out or Path("runs") / told.name), registry, redo)
    _print_scores(report.parent)
    typer.echo(report)


@command
def report(run: Annotated[Path, typer.Argument(help="a finished run's directory")]) -> None:
    """Write a run's report again, from what lies in its directory."""
    from mld.pipeline import run as pipeline
    from mld.storage.run_dir import RunDir

    typer.echo(pipeline.report(RunDir(run)))


def _print_plan(told: Plan) -> None:
    compute = asdict(told.compute)
    typer.echo(", ".join(f"{key} {value}" for key, value in compute.items()))
    typer.echo("rows: " + ", ".join(f"{split} {count:,}" for split, count in told.rows.items()))
    for job in told.jobs:
        typer.echo(
            f"{job.name}: {job.parameters:,} parameters, "
            f"{job.steps:,} steps of {job.batch_size:,} rows"
        )
    for subset, nfe in told.nfe.items():
        typer.echo(f"{subset}: {told.samples:,} samples of {nfe:g} evaluations")
    typer.echo(f"disk: about {told.megabytes:.0f} MB")


def _print_scores(folder: Path) -> None:
    """The scores in a few lines."""
    from mld.storage.run_dir import RunDir

    run_dir = RunDir(folder)
    scores = run_dir.read_json(run_dir.metrics)
    joint, ceiling = scores["joint_coherence"], scores["joint_ceiling"]
    if joint:
        beside = f", ceiling {ceiling['value']:.3f}" if ceiling else ""
        typer.echo(f"joint coherence {joint['value']:.3f} (n = {joint['n']}{beside})")
    for row in scores["conditional_coherence"]:
        if len(row["given"]) == 1:
            typer.echo(f"{row['given'][0]} to {row['target']}: coherence {row['value']:.3f}")
    for message in scores["warnings"]:
        typer.echo(f"warning: {message}", err=True)
