"""Helpers shared by the commands: exit codes, the choice of plugins, parsing of options."""

from __future__ import annotations

import errno
import os
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, TypeVar

import typer
from typer.core import TyperCommand

from mld.commands.completion import complete_run, complete_sampler
from mld_core.errors import ExitCode, MLDError, SpecError, is_out_of_memory

if TYPE_CHECKING:
    from mld.inference.trained_run import TrainedRun
    from mld.storage.weight_store import WeightStore
    from mld_core import Registry

Function = TypeVar("Function", bound=Callable[..., None])
_UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Errors of the operating system that are the user's to fix, whatever wanted to write."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunFolder = Annotated[
    Path,
    typer.Argument(
        help="a finished run's directory, or hub:owner/name", autocompletion=complete_run
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Solver steps (default: the run's).")]
Sampler = Annotated[
    str | None,
    typer.Option(help="The solver (default: the run's).", autocompletion=complete_sampler),
]
Texts = list[str] | None
"""The values of an option that may be repeated; None if it is not given."""


def repeatable(
    metavar: str,
    help: str,
    *names: str,
    complete: Callable[[str], list[str]] | None = None,
) -> Any:
    """An option that may be repeated, as its help says.

    Args:
        complete: the words that a shell offers for the beginning of one.
    """
    return typer.Option(
        *names, metavar=metavar, help=f"{help}; may be repeated.", autocompletion=complete
    )


@dataclass(frozen=True)
class PluginSelection:
    """Which plugins a command may use, by kind or distribution.

    It is the `obj` of every command's typer.Context. Commands hand it on as arguments, so that no
    library code reads the environment.
    """

    allowed: Sequence[str]
    blocked: Sequence[str]

    @classmethod
    def from_environment(cls, blocked: Iterable[str] = ()) -> PluginSelection:
        """The selection of MLD_PLUGINS and MLD_NO_PLUGINS, and more plugins that are blocked."""
        return cls(_listed("MLD_PLUGINS"), [*blocked, *_listed("MLD_NO_PLUGINS")])

    def registry(self) -> Registry:
        """The plugins that may be used. PluginError if one that is named is not installed."""
        from mld_core.plugins.registry import Registry

        return Registry(allowed=self.allowed, blocked=self.blocked)

    def environment(self) -> dict[str, str]:
        """The environment variables that select the same plugins in another process."""
        return {"MLD_PLUGINS": ",".join(self.allowed), "MLD_NO_PLUGINS": ",".join(self.blocked)}


def weight_store() -> WeightStore:
    """The store of trained weights: the folder MLD_STORE, or the one in the user's cache."""
    from mld.storage.weight_store import WeightStore

    folder = os.environ.get("MLD_STORE")
    return WeightStore(Path(folder).expanduser()) if folder else WeightStore.in_user_cache()


def command(function: Function) -> Function:
    """Map a command's exceptions to the documented exit codes.

    An MLDError is printed without a traceback, any other exception with one. A UserWarning is
    printed as one line.
    """

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _print_warning  # type: ignore[assignment]
                function(*args, **kwargs)
        except MLDError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (typer.Exit, typer.BadParameter, BrokenPipeError):
            raise
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                _report_bug()
            typer.echo(f"error: {error.filename or 'the disk'}: {error.strerror}", err=True)
            raise typer.Exit(ExitCode.RUN_DIR) from error
        except Exception as error:
            _report_damaged_metadata(error)
            if not is_out_of_memory(error):
                _report_bug()
            reason = str(error).rpartition("can't allocate memory: ")[2].partition("\n")[0]
            typer.echo(
                f"error: not enough memory ({reason or type(error).__name__}): choose smaller "
                "items, networks, batch_size or num_samples",
                err=True,
            )
            raise typer.Exit(ExitCode.DATA) from error

    return wrapped  # type: ignore[return-value]


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`: the message alone, without the line of code."""
    typer.echo(f"warning: {message}", err=True)


@contextmanager
def resumable(advice: str = "re-run the same command to resume") -> Iterator[None]:
    """Around work that an interruption does not lose: Ctrl-C then prints how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {advice}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _report_damaged_metadata(error: Exception) -> None:
    """Exit if metadata of installed distributions, which also libraries read, caused an error."""
    from mld_core.plugins.discovery import damaged_distributions

    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = {frame.f_globals.get("__name__", "") for frame in frames}
    if "importlib.metadata" in modules and (damaged := damaged_distributions()):
        typer.echo("error: " + "\n".join(damaged), err=True)
        raise typer.Exit(ExitCode.PLUGIN) from error


def _report_bug() -> NoReturn:
    """Print the traceback of the exception that is being handled, and exit."""
    traceback.print_exc()
    typer.echo("internal error in mld or a plugin; please report it", err=True)
    raise typer.Exit(ExitCode.BUG) from None


def parse_pairs(texts: Iterable[str] | None, option: str, form: str) -> dict[str, str]:
    """The values of a repeatable option by name; each is written as `form`, such as NAME=KIND."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not (name and value):
            raise typer.BadParameter(f"{option} must be {form}, not {text!r}")
        if name in pairs:
            raise typer.BadParameter(f"{option} names {name!r} twice")
        pairs[name] = value
    return pairs


def check_sampling(**settings: Any) -> None:
    """BadParameter unless these values of sampling options, where given, are valid in a spec."""
    from mld.config.sections import GenerateSpec

    try:
        GenerateSpec().with_overrides(**settings)
    except SpecError as error:
        raise typer.BadParameter(str(error)) from error


def check_table_name(path: Path, option: str) -> None:
    """BadParameter unless a path, the value of an option, is named like a table."""
    from mld_core import TABLE_NAMES, TABLE_SUFFIXES

    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise typer.BadParameter(f"{option} must be named {TABLE_NAMES}, not {path}")


class StrictCommand(TyperCommand):
    """A command whose options are given once, unless they may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As without this class, except that an option given twice is a BadParameter."""
        if ctx.resilient_parsing:  # completion of a line that is being typed
            return super().parse_args(ctx, args)
        given: list[Any] = self.make_parser(ctx).parse_args(args=[*args])[2]
        for option, count in Counter(given).items():
            if count > 1 and not getattr(option, "multiple", False):
                raise typer.BadParameter("given twice", ctx=ctx, param=option)
        return super().parse_args(ctx, args)


def open_run(folder: Path, registry: Registry) -> TrainedRun:
    """Load a finished run."""
    from mld.inference import trained_run

    return trained_run.load(folder, registry, store=weight_store())


def _listed(variable: str) -> list[str]:
    """The comma-separated names in an environment variable."""
    names = (name.strip() for name in os.environ.get(variable, "").split(","))
    return [name for name in names if name]
