"""The command line: thin over `mld.run`, `mld.load` and the Registry.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs
it, so that help and completion are quick.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from mld.commands import (
    bench,
    check,
    data,
    describe,
    export,
    new,
    plugins,
    query,
    run,
    sample,
    serve,
    share,
    spec,
    store,
)
from mld.commands.common import PluginSelection, StrictCommand, Texts, command, repeatable
from mld.commands.completion import complete_kind

app = typer.Typer(
    help="Any-to-any generation over your own modalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    run.run,
    sample.sample,
    serve.serve,
    export.export,
    query.impute,
    query.score,
    query.information,
    run.report,
    share.push,
    share.load,
    plugins.modalities,
    plugins.datasets,
    plugins.methods,
    plugins.trackers,
    describe.describe,
    check.check,
)
for _command in _COMMANDS:
    app.command(cls=StrictCommand)(_command)
for _command in (new.new_modality, new.new_dataset, new.new_method):
    app.command(_command.__name__.replace("_", "-"), cls=StrictCommand)(_command)

spec_app = typer.Typer(help="Write and validate specs.", no_args_is_help=True)
_SPEC_COMMANDS: tuple[Callable[..., None], ...] = (spec.validate, spec.schema, spec.init)
for _command in _SPEC_COMMANDS:
    spec_app.command(cls=StrictCommand)(_command)
app.add_typer(spec_app, name="spec")
app.add_typer(bench.app, name="bench")
data_app = typer.Typer(help="Look at data before training.", no_args_is_help=True)
data_app.command(cls=StrictCommand)(data.check)
app.add_typer(data_app, name="data")
store_app = typer.Typer(help="List and delete stored weights and items.", no_args_is_help=True)
store_app.command("list", cls=StrictCommand)(store.list_)
store_app.command(cls=StrictCommand)(store.prune)
app.add_typer(store_app, name="store")


_SETTINGS_OF_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that say how OpenMP threads wait for each other."""
_SPIN_COUNT = "10000"
"""Turns that a waiting thread spins before it sleeps: about the time between two operations."""


def main() -> None:
    """Run the command line; SIGTERM ends a command as Ctrl-C does."""
    _limit_spinning_of_threads()
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal or a pipe of Windows may lack the letters of what is printed.
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


def _limit_spinning_of_threads() -> None:
    """Let OpenMP threads sleep after a short wait, unless the user has chosen how they wait.

    By default they spin for long. Beside other busy processes, a spinning thread takes its core
    from the one that it waits for. Threads that sleep at once (OMP_WAIT_POLICY=PASSIVE) are slower
    than one thread on an idle machine, where waking up takes longer than most operations. OpenMP
    reads the variable when torch is imported; child processes inherit it.
    """
    if not any(name in os.environ for name in _SETTINGS_OF_WAITING):
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@command
def _print_versions(requested: bool) -> None:
    if not requested:
        return
    from mld_core.plugins.discovery import installed_version

    typer.echo(f"mld-toolkit {installed_version('mld-toolkit')}")
    typer.echo(f"torch {installed_version('torch')}")
    for kind, distribution in PluginSelection.from_environment().registry().installed().items():
        typer.echo(f"plugin {kind}: {distribution}")
    raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of mld, torch and all plugins.",
        ),
    ] = False,
    no_plugin: Annotated[
        Texts, repeatable("NAME", "Block a kind or a distribution", complete=complete_kind)
    ] = None,
) -> None:
    context.obj = PluginSelection.from_environment(no_plugin or [])
