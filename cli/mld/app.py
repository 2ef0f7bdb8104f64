"""The command line: thin over `mld.run`, `mld.load` and the Registry.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs
it, so that help and completion are quick.
"""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer

from mld.commands import knowing, plugins, running, sampling, specs

app = typer.Typer(
    help="Any-to-any generation over your own modalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    running.run,
    sampling.sample,
    knowing.impute,
    knowing.score,
    knowing.information,
    running.report,
    plugins.modalities,
):
    app.command()(command)

spec_app = typer.Typer(help="Write and check specs.", no_args_is_help=True)
for command in (specs.check, specs.schema, specs.init):
    spec_app.command()(command)
app.add_typer(spec_app, name="spec")


def main() -> None:
    """Run the command line; SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    from mld_core import Registry

    typer.echo(f"mld-toolkit {version('mld-toolkit')}")
    typer.echo(f"torch {version('torch')}")
    for kind, told in Registry().installed().items():
        typer.echo(f"plugin {kind}: {told}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Versions of everything."),
    ] = False,
) -> None:
    pass
