"""What the commands share: how they end, and how their options read."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mld_core.errors import ExitCode, MLDError

if TYPE_CHECKING:
    from mld.inference.trained_run import Run

Function = TypeVar("Function", bound=Callable[..., None])
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command(function: Function) -> Function:
    """Tell a user's mistakes in their own words, and ours with a traceback; exit as documented."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except MLDError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("stopped: the same command goes on from here", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (typer.Exit, typer.BadParameter, BrokenPipeError):
            raise
        except Exception:
            traceback.print_exc()
            typer.echo("This is a mistake of mld or a plugin: please report it.", err=True)
            raise typer.Exit(ExitCode.BUG) from None

    return wrapped  # type: ignore[return-value]


def pair(told: str) -> tuple[str, str]:
    """The two sides of NAME=DATUM."""
    name, equals, value = told.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"--given wants NAME=DATUM, not {told!r}")
    return name, value


def open_run(folder: Path) -> Run:
    """A finished run to be asked; what it warns of goes to stderr."""
    from mld.inference import trained_run
    from mld_core import Registry

    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always", UserWarning)
        loaded = trained_run.load(folder, Registry())
    for warning in met:
        typer.echo(f"warning: {warning.message}", err=True)
    return loaded
