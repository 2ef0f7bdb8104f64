"""`mld run` and `mld report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld.commands.common import (
    AsJson,
    PluginSelection,
    RunFolder,
    Texts,
    command,
    repeatable,
    resumable,
    weight_store,
)
from mld.commands.completion import complete_kind, complete_stage
from mld.commands.plan_table import cost_lines, estimate_json, plan_lines

if TYPE_CHECKING:
    from mld.config.spec import Spec
    from mld.pipeline.estimate import Estimate
    from mld.storage.run_dir import RunDir
    from mld_core import Registry


@command
def run(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(help="the experiment, a YAML file")],
    set_: Annotated[Texts, repeatable("A.B=C", "Override a setting", "--set")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory (default: runs/<name>).")
    ] = None,
    from_stage: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Recompute this stage and those after it.",
            autocompletion=complete_stage,
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Show the run in a tracker, such as tensorboard; --set track.NAME=VALUE sets it"
            " up.",
            autocompletion=complete_kind,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the plan and what it costs, by stage, after a rehearsal on a few rows.",
        ),
    ] = False,
    slurm: Annotated[
        Texts,
        repeatable("NAME=VALUE", "Submit as a job of Slurm, with this option of sbatch", "--slurm"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate an experiment; re-run the same command to resume."""
    from mld.config.spec import load_spec
    from mld.runtime.nodes import process_rank
    from mld.storage.run_dir import RunDir
    from mld.storage.stages import STAGE_NAMES
    from mld_core import did_you_mean

    if from_stage is not None and from_stage not in STAGE_NAMES:
        stages, hint = ", ".join(STAGE_NAMES), did_you_mean(from_stage, STAGE_NAMES)
        raise typer.BadParameter(f"no stage {from_stage!r} (stages: {stages}){hint}")
    registry = context.obj.registry()
    overrides = [*([f"track.kind={track}"] if track else []), *(set_ or [])]
    experiment = load_spec(spec, registry, overrides)
    is_first = process_rank() == 0
    run_dir = RunDir(out or Path("runs") / experiment.name)
    if dry_run:
        if is_first:
            _dry_run(experiment, registry, run_dir, from_stage, as_json)
        return
    if slurm:
        if from_stage:
            raise typer.BadParameter("--from-stage and --slurm: start the stage without Slurm")
        words = ["run", str(spec.resolve()), *(f"--set={each}" for each in overrides)]
        _submit(experiment, words, run_dir, context.obj, slurm, as_json)
        return
    from mld.pipeline.run import run_spec
    from mld.runtime.compute import resolve

    if is_first:
        _warn_of_busy_cores(resolve(experiment.compute).threads)
    again = "without --from-stage " if from_stage else ""
    words = ["mld", *sys.argv[1:]]
    with resumable(f"re-run the same command {again}to resume"):
        run_spec(experiment, spec, run_dir, registry, from_stage, weight_store(), words)
    if not is_first:
        return
    _print_use(run_dir)
    if as_json:
        typer.echo(json.dumps(run_dir.read_json(run_dir.metrics), indent=1))
        return
    _print_scores(run_dir)
    typer.echo(run_dir.report)


@command
def report(run: RunFolder) -> None:
    """Write the report of a finished run again."""
    from mld.pipeline import run as pipeline
    from mld.storage.run_dir import RunDir

    typer.echo(pipeline.report(RunDir(run)))


def _dry_run(
    spec: Spec, registry: Registry, run_dir: RunDir, from_stage: str | None, as_json: bool
) -> None:
    """Print the plan of a run and its costs. An MLDError if it cannot fit."""
    from mld.pipeline.estimate import estimate
    from mld.runtime.processor import seconds_since_start

    store, start_seconds = weight_store(), seconds_since_start()
    estimated = estimate(spec, registry, run_dir, store, from_stage, start_seconds)
    _print_estimate(estimated, as_json)


def _submit(
    spec: Spec,
    words: Sequence[str],
    run_dir: RunDir,
    plugins: PluginSelection,
    options: Sequence[str],
    as_json: bool,
) -> None:
    """Submit a run as a job, unless its job is queued or runs; print its number and its log."""
    from mld.runtime.slurm import Slurm

    run_dir.check()
    out = run_dir.path.resolve()
    folder = out.with_name(f"{out.name}.slurm")
    slurm, log = Slurm(folder, options), folder / "output.log"
    if job := slurm.find(out.name, log):
        what = f"is {job.state} already"
    else:
        words = [*words, f"--out={out}"]
        environment = {"MLD_STORE": str(weight_store().root.resolve()), **plugins.environment()}
        job = slurm.submit(out.name, words, log, environment, spec.compute)
        what = "submitted"
    if as_json:
        typer.echo(json.dumps({"job": job.number, "log": str(log)}))
    else:
        typer.echo(f"job {job.number} {what}; output: {log}")


def _warn_of_busy_cores(threads: int) -> None:
    """Say so if other processes keep cores busy that a training on several threads would use."""
    from mld.runtime.processor import idle_cores

    if threads > 1 and (idle := idle_cores()) < threads - 0.7:
        typer.echo(
            f"warning: {threads} threads, but other processes leave only {max(idle, 0):.1f} cores "
            "idle: if they go on, --set compute.threads=1 is faster",
            err=True,
        )


def _print_estimate(estimate: Estimate, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(estimate_json(estimate), indent=1))
        return
    for line in plan_lines(estimate.plan):
        typer.echo(line)
    if estimate.stages:
        typer.echo()
        for line in cost_lines(estimate.stages):
            typer.echo(line)


def _print_use(run_dir: RunDir) -> None:
    """Print what of the data and the weights the last run kept, in one line; nothing if none."""
    use = [event for event in run_dir.read_events() if event["event"] == "use"][-1]
    parts = []
    for place in ("memory", "disk"):
        items = {name: record for name, record in use["items"].items() if record["place"] == place}
        if items:
            size = sum(record["bytes"] for record in items.values())
            before = sum(record["stored_before"] for record in items.values())
            total = sum(record["items"] for record in items.values())
            stored = f", {before:,} of {total:,} stored before" if place == "disk" else ""
            parts.append(f"items of {', '.join(items)} {IN[place]} ({size / 1e6:,.1f} MB{stored})")
    if parts:
        parts.append(f"latents ({use['latents'] / 1e6:,.1f} MB)")
    if use["trainings"]:
        parts.append(f"weights of {', '.join(use['trainings'])} from the store")
    if parts:
        typer.echo(f"kept: {'; '.join(parts)}", err=True)


IN = {"memory": "in memory", "disk": "streamed from disk"}
"""In words, where items are kept."""


def _print_scores(run_dir: RunDir) -> None:
    """Print the main scores of a run in a few lines."""
    scores = run_dir.read_json(run_dir.metrics)
    joint, ceiling = scores["joint_coherence"], scores["joint_ceiling"]
    if joint:
        upper_bound = f", ceiling {ceiling['value']:.3f}" if ceiling else ""
        typer.echo(f"joint coherence {joint['value']:.3f} (n = {joint['n']}{upper_bound})")
    if joint := scores.get("retrieval", {}).get("joint"):
        at_1, limit = joint["at_1"], joint["reconstructions"]
        upper_bound = f", ceiling {limit['at_1']['value']:.3f}" if limit else ""
        chance = f"chance {joint['chance']['at_1']:.3f}"
        typer.echo(f"joint retrieval {at_1['value']:.3f} (n = {at_1['n']}{upper_bound}, {chance})")
    for pair, figures in _figures_of_pairs(scores).items():
        typer.echo(f"{' to '.join(pair)}: {', '.join(figures)}")
    for message in scores["warnings"]:
        typer.echo(f"warning: {message}", err=True)


def _figures_of_pairs(scores: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Coherence, retrieval and the main metrics of each modality given another one, as texts."""
    from mld.reporting.truth_metrics import main_metrics, one_to_one, scores_by_metric

    figures: dict[tuple[str, str], list[str]] = {}
    for row in one_to_one(scores["conditional_coherence"]):
        figures[row["given"][0], row["target"]] = [f"coherence {row['value']:.3f}"]
    for row in scores.get("retrieval", {}).get("conditional", []):
        if len(row["given"]) == 1:
            pair = figures.setdefault((row["given"][0], row["target"]), [])
            pair.append(f"retrieval {row['at_1']['value']:.3f}")
    metrics = [metric for metric, rows in scores_by_metric(scores).items() if one_to_one(rows)]
    main = {(metric.target, metric.name) for metric in main_metrics(metrics)}
    for row in one_to_one(scores.get("conditional_metrics", [])):
        if (row["target"], row["metric"]) in main:
            name, unit = row["metric"].replace("_", " "), f" {row['unit']}" if row["unit"] else ""
            pair = figures.setdefault((row["given"][0], row["target"]), [])
            pair.append(f"{name} {row['value']:.3g}{unit}")
    return figures
