"""`mld bench SUITE` and `mld bench compare A B`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mld.commands.common import (
    AsJson,
    PluginSelection,
    StrictCommand,
    Texts,
    command,
    repeatable,
    resumable,
    weight_store,
)
from mld_core.errors import ExitCode, SpecError

if TYPE_CHECKING:
    from mld.bench.executors import Executor
    from mld.bench.suite_dir import SuiteDir
    from mld.bench.trials import Trial

SUITE = "SUITE"
"""The name of the command that runs a suite, as shown in the help; users do not type it."""


SLURM_JOBS = 16
"""How many jobs of a suite are queued or run at the same time, unless --jobs says it."""


class _SuiteGroup(TyperGroup):
    """Runs the command SUITE if the first argument is no command of the group but a file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help", "-h"}
        return super().parse_args(ctx, args if not args or args[0] in known else [SUITE, *args])


app = typer.Typer(
    cls=_SuiteGroup,
    no_args_is_help=True,
    help="Run a grid of experiments, or compare two of them.",
    subcommand_metavar="SUITE.yaml | compare A B",
)


@app.command(SUITE, cls=StrictCommand)
@command
def suite(
    context: typer.Context,
    suite: Annotated[Path, typer.Argument(metavar="FILE", help="the suite, a YAML file")],
    set_: Annotated[
        Texts, repeatable("A.B=C", "Override a setting of the base spec", "--set")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Run this seed instead of the suite's; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The suite's folder (default: runs/bench/<name>).")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Parallel runs (default and maximum: cores / threads per run; on Slurm, 16 jobs).",
        ),
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Run only part I of N.")] = "",
    executor: Annotated[
        str, typer.Option(help="Where to run: local, or ray or slurm for a cluster.")
    ] = "local",
    slurm: Annotated[
        Texts, repeatable("NAME=VALUE", "An option of sbatch for the jobs of Slurm", "--slurm")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed trials again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trials, and estimate time, memory and disk.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run all trials of a suite that are not done, and write its leaderboard."""
    from mld.bench.leaderboard import write_leaderboard
    from mld.bench.runner import run_trials
    from mld.bench.suite import load_suite
    from mld.bench.suite_dir import SuiteDir
    from mld.bench.trials import make_trials

    plugins: PluginSelection = context.obj
    loaded = load_suite(suite, set_ or [], seed or [])
    suite_dir = SuiteDir(out or Path("runs") / "bench" / loaded.spec.name)
    suite_dir.check()
    shard = _normalise_shard(shard)
    # The leaderboard covers the trials of earlier seeds in the folder, too.
    all_trials = make_trials(loaded.with_seeds(suite_dir.seeds()), plugins.registry())
    trials = [trial for trial in all_trials if trial.coordinates.seed in loaded.spec.seeds]
    if shard:
        # Which shard a trial is in depends on its key alone, not on the rest of the suite.
        number, count = map(int, shard.split("/"))
        trials = [trial for trial in trials if int(trial.key, 16) % count == number - 1]
    _print_errors(trials)
    environment = {
        "OMP_NUM_THREADS": str(loaded.spec.threads),
        "MLD_STORE": str(weight_store().root.resolve()),
        **plugins.environment(),
    }
    if executor == "slurm":
        started_by = _slurm_executor(jobs, environment, suite_dir, slurm or [])
    elif slurm:
        raise typer.BadParameter("--slurm needs --executor slurm")
    else:
        started_by = _make_executor(executor, jobs, loaded.spec.threads, environment, trials)
    if dry_run:
        is_local = executor == "local"
        _print_trials(suite_dir, trials, started_by.slots, plugins, is_local)
        return
    with suite_dir.claim(shard), resumable():
        with suite_dir.write_lock():
            suite_dir.freeze(all_trials)
        if retry_failed:
            for trial in trials:
                suite_dir.clear_failure(trial)
        run_trials(suite_dir, trials, started_by)
        with suite_dir.write_lock():
            command_line = shlex.join(["mld", *sys.argv[1:]])
            written = write_leaderboard(suite_dir, loaded.spec, all_trials, command_line)
    _print_results(suite_dir, all_trials, as_json)
    for path in written:
        typer.echo(path, err=as_json)
    failures = suite_dir.failures(trials)
    for who, reason in failures:
        typer.echo(f"failed: {who}: {reason}", err=True)
    if failures:
        typer.echo("use --retry-failed to run failed trials again", err=True)
        raise typer.Exit(ExitCode.PARTIAL)


@app.command("compare", cls=StrictCommand)
@command
def compare(
    first: Annotated[Path, typer.Argument(help="the folder of a suite")],
    second: Annotated[Path, typer.Argument(help="that of another with variants of equal names")],
    as_json: AsJson = False,
) -> None:
    """Metrics of the second suite minus the first's, paired by seed, with 95 % intervals."""
    from mld.bench import compare as comparison
    from mld.bench.suite_dir import SuiteDir

    suite_dirs = SuiteDir(first), SuiteDir(second)
    rows = comparison.compare(*suite_dirs)
    for line in comparison.unmatched_trials(*suite_dirs):
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(f"{' + '.join(row['modalities'])}, {row['variant']}")
        for column, figure in row.items():
            if isinstance(figure, dict):
                typer.echo(f"  {column}: {_format_difference(figure)}")


def _format_difference(figure: dict[str, Any]) -> str:
    text = f"{figure['value']:+.3f}"
    if figure["low"] is None:
        return f"{text} (one seed)"
    seeds = f"{figure['n']} seeds" if figure["n"] > 1 else "one seed"
    return f"{text} ({figure['low']:+.3f} to {figure['high']:+.3f}, {seeds})"


def _normalise_shard(shard: str) -> str:
    """A shard I/N without leading zeros; "" for none."""
    number, slash, count = shard.partition("/")
    if not shard:
        return ""
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"--shard must be I/N with 1 <= I <= N, not {shard!r}")
    return f"{int(number)}/{int(count)}"


def _make_executor(
    name: str,
    jobs: int | None,
    threads: int,
    environment: Mapping[str, str],
    trials: Sequence[Trial],
) -> Executor:
    from mld.bench.executors import LocalExecutor, RayExecutor, visible_gpus
    from mld.bench.trials import needs_gpu

    if name not in ("local", "ray"):
        raise typer.BadParameter(f"--executor must be local, ray or slurm, not {name!r}")
    use_gpu = needs_gpu(trials)
    if name == "ray":
        return RayExecutor(jobs, environment, threads, use_gpu)
    slots = _parallel_runs(jobs, threads)
    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES")) if use_gpu else []
    return LocalExecutor(slots, environment, gpus)


def _slurm_executor(
    jobs: int | None, environment: Mapping[str, str], suite_dir: SuiteDir, options: Sequence[str]
) -> Executor:
    from mld.bench.executors import SlurmExecutor
    from mld.runtime.slurm import Slurm

    slurm = Slurm(suite_dir.path / "slurm", options)
    return SlurmExecutor(jobs or SLURM_JOBS, environment, slurm)


def _parallel_runs(jobs: int | None, threads: int) -> int:
    """The runs that this machine starts at the same time; never more threads than cores.

    SpecError if not even one run fits, BadParameter if not as many as `jobs` do.
    """
    from mld.runtime.processor import available_cores

    cores = available_cores()
    if threads > cores:
        raise SpecError(f"threads: {threads}: only {cores} cores are available to this process")
    maximum = cores // threads
    if jobs and jobs > maximum:
        raise typer.BadParameter(
            f"--jobs {jobs} needs {jobs * threads} cores, {threads} a run, but {cores} are "
            f"available to this process: use --jobs {maximum} or less"
        )
    return jobs or maximum


def _print_errors(trials: Sequence[Trial]) -> None:
    from mld.bench.trials import summarise_trials

    by_error: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.error:
            by_error.setdefault(trial.error, []).append(trial)
    for error, invalid in by_error.items():
        typer.echo(f"error: {summarise_trials(invalid)} cannot be run:", err=True)
        for line in error.splitlines():
            typer.echo(f"  {line}", err=True)


def _print_trials(
    suite_dir: SuiteDir,
    trials: Sequence[Trial],
    slots: int,
    plugins: PluginSelection,
    is_local: bool,
) -> None:
    """Print each trial with its state, and what the open ones cost together."""
    from mld.bench.trials import unique_runs

    states = {trial.key: suite_dir.state(trial) for trial in trials}
    for trial in trials:
        typer.echo(f"{trial.key}  {states[trial.key]:6}  {trial.coordinates}")
    values = [*states.values()]
    counts = ", ".join(f"{values.count(state)} {state}" for state in ("done", "failed", "open"))
    queue = [trial for trial in unique_runs(trials) if states[trial.key] == "open"]
    costs = _costs_line(suite_dir, queue, slots, plugins, is_local) if queue else ""
    typer.echo(f"{len(states)} trials: {counts}{costs}")


def _costs_line(
    suite_dir: SuiteDir,
    queue: Sequence[Trial],
    slots: int,
    plugins: PluginSelection,
    is_local: bool,
) -> str:
    """What open trials cost; an MLDError if they cannot fit."""
    from mld.bench.costs import suite_cost
    from mld.commands.plan_table import format_megabytes
    from mld.reporting.number_format import format_duration
    from mld.runtime.processor import seconds_since_start

    start_seconds = seconds_since_start()
    registry, store = plugins.registry(), weight_store()
    cost = suite_cost(suite_dir, queue, slots, registry, store, start_seconds, is_local)
    sizes = {
        "memory": cost.memory,
        "disk": cost.disk,
        "store": cost.stored,
        "temporary": cost.temporary,
    }
    listed = ", ".join(f"{name} {format_megabytes(size)}" for name, size in sizes.items())
    duration = format_duration(round(cost.seconds, 1))
    left_out = f"; the costs of {cost.unknown} are unknown" if cost.unknown else ""
    return f"; estimated for the open ones, {slots} at once: time {duration}, {listed}{left_out}"


def _print_results(suite_dir: SuiteDir, trials: Sequence[Trial], as_json: bool) -> None:
    from mld.bench.aggregate import variant_results
    from mld.bench.compare import variant_row
    from mld.bench.tables import main_columns

    rows: list[dict[str, Any]] = []
    for result in variant_results(suite_dir, trials):
        columns = main_columns([result])
        figures = {column: figure for column in columns if (figure := result.figure(column))}
        rows.append(variant_row(result, figures))
        means = ", ".join(f"{column} {figure.value:.3f}" for column, figure in figures.items())
        if not as_json:
            typer.echo(f"{' + '.join(result.coordinates.modalities)}, {result.variant}: {means}")
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
