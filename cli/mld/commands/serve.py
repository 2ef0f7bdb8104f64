"""`mld serve`."""

from __future__ import annotations

import ipaddress
import threading
from typing import Annotated

import typer

from mld.commands.common import RunFolder, command, open_run
from mld_core.errors import SpecError


@command
def serve(
    context: typer.Context,
    run: RunFolder,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is open to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The port (default: the first free one from 7860)."),
    ] = None,
) -> None:
    """Open a page on which to sample from a finished run in a browser; Ctrl-C ends it."""
    from mld_core import require_library

    try:
        require_library("gradio")
    except ModuleNotFoundError as error:
        raise SpecError("mld serve needs Gradio: pip install 'mld-toolkit[serve]'") from error
    from mld.serving.server import serving

    trained_run = open_run(run, context.obj.registry())
    if not _is_loopback(host):
        typer.echo(
            f"warning: {host} can be reached from other machines, and the page has no password",
            err=True,
        )
    try:
        with serving(trained_run, host, port) as address:
            typer.echo(address)
            typer.echo("Ctrl-C ends it", err=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {host}, port {port or 'any'}: {error}"
        ) from error


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
