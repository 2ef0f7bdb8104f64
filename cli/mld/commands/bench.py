"""`mld bench SUITE` and `mld bench compare A B`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from mld.commands.common import AsJson, command
from mld_core.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mld.bench.cells import Bench, Cell

SUITE = "SUITE"
"""The name of the command that runs a suite: help then reads as people type it."""


class _SuiteFirst(TyperGroup):
    """A group whose first word may be a suite's file: then it is the command SUITE."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help", "-h"}
        return super().parse_args(ctx, args if not args or args[0] in known else [SUITE, *args])


app = typer.Typer(
    cls=_SuiteFirst,
    no_args_is_help=True,
    help="Run a grid of experiments, and compare two of them.",
    subcommand_metavar="SUITE.yaml | compare A B",
)


@app.command(SUITE)
@command
def suite(
    context: typer.Context,
    suite: Annotated[Path, typer.Argument(metavar="FILE", help="the suite, a YAML file")],
    set_: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations on Python 3.11)
        typer.Option(
            "--set", metavar="A.B=C", help="Override a setting of the base spec; may be repeated."
        ),
    ] = None,
    seed: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(help="Run this seed, not the suite's own; may be repeated."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="The suite's folder; runs/bench/<name> if not given."),
    ] = None,
    jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Cells at once; if not given, all cores over a cell's threads."),
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Run only the i-th of n parts.")] = "",
    executor: Annotated[str, typer.Option(help="local, or ray: a Ray cluster.")] = "local",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cells again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells, and estimate the time.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run every cell of a suite that is still open, and write its leaderboard."""
    from mld.bench.cells import Bench, make_cells, want_gpus
    from mld.bench.leaderboard import write_leaderboard
    from mld.bench.runner import run_cells
    from mld.bench.suite import load_suite

    loaded = load_suite(suite, set_ or [], seed or [])
    told = loaded.told
    bench = Bench(out or Path("runs") / "bench" / told.name)
    shard = _plain(shard)
    everything = make_cells(loaded.with_seeds(bench.seeds()), context.obj.registry())
    cells = _part([cell for cell in everything if cell.at.seed in told.seeds], shard)
    _print_faults(cells)
    slots = jobs or max(1, (os.cpu_count() or 1) // told.threads)
    runner = _executor(executor, slots, told.threads, want_gpus(cells))
    if dry_run:
        _print_cells(bench, cells, runner.slots)
        return
    with bench.held(shard):
        with bench.writing():
            bench.freeze(everything)
        for cell in cells if retry_failed else ():
            bench.forgive(cell)
        run_cells(bench, cells, runner, told.threads)
        with bench.writing():
            written = write_leaderboard(bench, told, everything)
    _print_results(bench, everything, as_json)
    for path in written:
        typer.echo(path, err=as_json)
    failed = bench.failures(cells)
    for who, reason in failed:
        typer.echo(f"failed: {who}: {reason}", err=True)
    if failed:
        typer.echo("failed cells are run again with --retry-failed", err=True)
        raise typer.Exit(ExitCode.PARTIAL)


@app.command("compare")
@command
def compare(
    first: Annotated[Path, typer.Argument(help="a suite's folder")],
    second: Annotated[Path, typer.Argument(help="another's, with variants of the same names")],
    as_json: AsJson = False,
) -> None:
    """What the second suite's variants score more than the first's, paired by seed; 95 %."""
    from mld.bench.cells import Bench
    from mld.bench.compare import compare as compared
    from mld.bench.compare import left_out

    found = compared(Bench(first), Bench(second))
    for line in left_out(Bench(first), Bench(second)):
        typer.echo(line, err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for row in found:
        typer.echo(f"{' + '.join(row['modalities'])}, {row['variant']}")
        for column, figure in row.items():
            if isinstance(figure, dict):
                typer.echo(f"  {column}: {_with_interval(figure)}")


def _with_interval(figure: dict[str, Any]) -> str:
    told = f"{figure['value']:+.3f}"
    if figure["low"] is None:
        return f"{told} (one seed)"
    seeds = f"{figure['n']} seeds" if figure["n"] > 1 else "one seed"
    return f"{told} ({figure['low']:+.3f} to {figure['high']:+.3f}, {seeds})"


def _plain(shard: str) -> str:
    """A shard as it is always written, without leading zeros; "" is none."""
    number, slash, count = shard.partition("/")
    if not shard:
        return ""
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"--shard wants I/N with 1 <= I <= N, not {shard!r}")
    return f"{int(number)}/{int(count)}"


def _part(cells: Sequence[Cell], shard: str) -> list[Cell]:
    """The cells of a shard: those whose key falls to it, whatever else the suite holds."""
    if not shard:
        return list(cells)
    number, count = map(int, shard.split("/"))
    return [cell for cell in cells if int(cell.key, 16) % count == number - 1]


def _executor(name: str, slots: int, threads: int, gpus: bool) -> Any:
    from mld.bench.executors import LocalExecutor, RayExecutor

    if name not in ("local", "ray"):
        raise typer.BadParameter(f"--executor is local or ray, not {name!r}")
    local = name == "local"
    return LocalExecutor(slots, gpus) if local else RayExecutor(slots, threads, gpus)


def _print_faults(cells: Sequence[Cell]) -> None:
    """What is wrong with cells that cannot be run, each thing once."""
    from mld.bench.cells import told_together

    faults: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.fault:
            faults.setdefault(cell.fault, []).append(cell)
    for fault, own in faults.items():
        typer.echo(f"error: {told_together(own)} cannot be run:", err=True)
        for line in fault.splitlines():
            typer.echo(f"  {line}", err=True)


def _print_cells(bench: Bench, cells: Sequence[Cell], slots: int) -> None:
    """Each cell and its state, and how long the open ones may take."""
    from mld.bench.cells import distinct
    from mld.bench.eta import Forecast
    from mld.bench.runner import clock

    states = {cell.key: bench.state(cell) for cell in cells}
    for cell in cells:
        typer.echo(f"{cell.key}  {states[cell.key]:6}  {cell.at}")
    counts = ", ".join(
        f"{list(states.values()).count(state)} {state}" for state in ("done", "failed", "open")
    )
    forecast = Forecast(bench, cells)
    waiting = [cell for cell in distinct(cells) if states[cell.key] == "open"]
    basis = "from the done ones" if forecast.measured else "very roughly: none is done yet"
    seconds = clock(forecast.total(waiting, slots))
    told = f"estimated time for the open ones, {slots} at once: {seconds} ({basis})"
    typer.echo(f"{len(states)} cells: {counts}; {told}")


def _print_results(bench: Bench, cells: Sequence[Cell], as_json: bool) -> None:
    from dataclasses import asdict

    from mld.bench.aggregate import lines_of
    from mld.bench.tables import MAIN

    rows = []
    for line in lines_of(bench, cells):
        figures = {column: line.figure(column) for column in MAIN}
        rows.append((line, {column: own for column, own in figures.items() if own}))
    if as_json:
        told = [
            {
                "modalities": list(line.modalities),
                "variant": line.variant,
                **{column: asdict(own) for column, own in figures.items()},
            }
            for line, figures in rows
        ]
        typer.echo(json.dumps(told, indent=1))
        return
    for line, figures in rows:
        told = ", ".join(f"{column} {own.value:.3f}" for column, own in figures.items())
        typer.echo(f"{' + '.join(line.modalities)}, {line.variant}: {told}")
