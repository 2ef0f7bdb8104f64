"""The command line: thin over `mld.run`, `mld.load` and the Registry.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs
it, so that help and completion are quick.
"""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any, Optional

import typer

from mld.commands import bench, check, plugins, query, run, sample, spec
from mld.commands.common import command as told

app = typer.Typer(
    help="Any-to-any generation over your own modalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run.run,
    sample.sample,
    query.impute,
    query.score,
    query.information,
    run.report,
    plugins.modalities,
    plugins.datasets,
    plugins.methods,
    check.check,
):
    app.command()(command)
app.command("new-modality")(plugins.new_modality)

spec_app = typer.Typer(help="Write and check spec.", no_args_is_help=True)
for command in (spec.check, spec.schema, spec.init):
    spec_app.command()(command)
app.add_typer(spec_app, name="spec")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


@told
def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import version

    from mld_core import Registry

    typer.echo(f"mld-toolkit {version('mld-toolkit')}")
    typer.echo(f"torch {version('torch')}")
    for kind, home in Registry().installed().items():
        typer.echo(f"plugin {kind}: {home}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Versions of everything."),
    ] = False,
    no_plugin: Annotated[
        Optional[list[str]],  # noqa: UP045  (typer reads annotations on Python 3.11)
        typer.Option(metavar="NAME", help="Block a kind or a distribution; may be repeated."),
    ] = None,
) -> None:
    if no_plugin:
        known = os.environ.get("MLD_NO_PLUGINS", "")
        os.environ["MLD_NO_PLUGINS"] = ",".join([*no_plugin, known])
