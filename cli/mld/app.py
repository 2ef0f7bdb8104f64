"""The command line: thin over `mld.run`, `mld.load` and the Registry.

Results go to stdout, everything else to stderr. Nothing heavy is imported before a command needs
it, so that help and completion are quick.
"""

from __future__ import annotations

import json
import signal
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer

from mld_core.errors import ExitCode, MLDError

if TYPE_CHECKING:
    from mld.plan import Plan
    from mld_core import Entry

app = typer.Typer(
    help="Any-to-any generation over your own modalities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
spec_app = typer.Typer(help="Write and check specs.", no_args_is_help=True)
app.add_typer(spec_app, name="spec")

Command = TypeVar("Command", bound=Callable[..., None])
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _told(command: Command) -> Command:
    """Tell a user's mistakes in their own words, and ours with a traceback; exit as documented."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except MLDError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            typer.echo("stopped: the same command goes on from here", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except (typer.Exit, typer.BadParameter):
            raise
        except Exception:
            traceback.print_exc()
            typer.echo("This is a mistake of mld or a plugin: please report it.", err=True)
            raise typer.Exit(ExitCode.BUG) from None

    return wrapped  # type: ignore[return-value]


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


@app.command()
@_told
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
    from mld.rundir import STAGES, RunDir
    from mld.spec import load_spec
    from mld_core import Registry

    if redo is not None and redo not in STAGES:
        raise typer.BadParameter(f"no stage {redo!r}; stages: {', '.join(STAGES)}")
    registry = Registry()
    told = load_spec(spec, registry, set_ or [])
    if dry_run:
        from mld.plan import plan

        _print_plan(plan(told, registry))
        return
    from mld import experiment

    report = experiment.run(told, RunDir(out or Path("runs") / told.name), registry, redo)
    _print_scores(report.parent)
    typer.echo(report)


@app.command()
@_told
def sample(
    run: Annotated[Path, typer.Argument(help="a finished run's directory")],
    given: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=DATUM", help="A file, or the datum itself where inline."),
    ] = None,
    want: Annotated[
        str, typer.Option(help="Modalities to generate, by commas; all others if not given.")
    ] = "",
    n: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("samples"),
    guidance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="Strength of guidance; the run's if not given."),
    ] = None,
    steps: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Steps of the solver; the run's if not given."),
    ] = None,
    sampler: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The solver; the run's if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Generate modalities of a finished run, given data for some of the others."""
    from mld import experiment
    from mld_core import Registry

    pairs = dict(_pair(told) for told in given or [])
    wanted = [name.strip() for name in want.split(",") if name.strip()] or None
    loaded = experiment.load(run, Registry())
    made = loaded.sample(
        pairs, wanted, n, seed=seed, sampler=sampler, steps=steps, guidance=guidance
    )
    files = {name: [str(path) for path in paths] for name, paths in made.write(out).items()}
    if as_json:
        told = {"files": files, "nfe": made.nfe, "seconds": made.seconds}
        typer.echo(json.dumps(told))
        return
    for name, paths in files.items():
        inline = loaded.modalities[name].inline
        for row, path in enumerate(paths):
            typer.echo(f"{path}\t{made.cells(name)[row]}" if inline else path)
    typer.echo(f"{made.nfe:g} network evaluations a sample, {made.seconds:.2f} s", err=True)


def _pair(told: str) -> tuple[str, str]:
    name, equals, value = told.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"--given wants NAME=DATUM, not {told!r}")
    return name, value


@app.command()
@_told
def report(run: Annotated[Path, typer.Argument(help="a finished run's directory")]) -> None:
    """Write a run's report again, from what lies in its directory."""
    from mld import experiment
    from mld.rundir import RunDir

    typer.echo(experiment.report(RunDir(run)))


@app.command()
@_told
def modalities(as_json: AsJson = False) -> None:
    """List the installed plugins, and what is wrong with those that cannot be used."""
    from mld_core import Registry

    entries = Registry().entries()
    if as_json:
        typer.echo(json.dumps([_entry(entry) for entry in entries], indent=1))
        return
    width = max((len(entry.kind) for entry in entries), default=0)
    for entry in entries:
        told = f"{entry.distribution} {entry.version}"
        typer.echo(f"{entry.kind:{width}}  {entry.role:8}  {told}  {entry.summary}")


def _entry(entry: Entry) -> dict[str, str]:
    told = {key: str(value) for key, value in vars(entry).items() if key != "provides"}
    return {**told, "role": entry.role, "summary": entry.summary}


@spec_app.command()
@_told
def check(
    spec: Annotated[Path, typer.Argument(help="a YAML file")],
    as_json: AsJson = False,
) -> None:
    """Say everything that is wrong with a spec, or print it with all its defaults."""
    from mld.spec import dump_spec, load_spec
    from mld_core import Registry

    told = load_spec(spec, Registry())
    typer.echo(json.dumps(told.model_dump(mode="json")) if as_json else dump_spec(told), nl=False)


@spec_app.command()
@_told
def schema() -> None:
    """Print the JSON Schema of specs with the installed plugins, for editors."""
    from mld.spec import spec_schema
    from mld_core import Registry

    typer.echo(json.dumps(spec_schema(Registry()), indent=1))


@spec_app.command()
@_told
def init(
    name: Annotated[str, typer.Argument(help="the experiment's name")],
    modality: Annotated[
        list[str], typer.Option("--modality", "-m", metavar="NAME=KIND", help="May be repeated.")
    ],
) -> None:
    """Write <name>.yaml: a first spec, every setting with its default and what it means."""
    from mld.spec import starter_spec

    path = Path(f"{name}.yaml")
    text = starter_spec(name, dict(_pair(told) for told in modality))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"{path} is already there, and nothing is overwritten") from None
    typer.echo(path)


def _print_plan(told: Plan) -> None:
    compute = asdict(told.compute)
    typer.echo(", ".join(f"{key} {value}" for key, value in compute.items()))
    typer.echo("rows: " + ", ".join(f"{split} {count:,}" for split, count in told.rows.items()))
    for job in told.jobs:
        typer.echo(
            f"{job.name}: {job.parameters:,} parameters, "
            f"{job.updates:,} updates of {job.batch:,} rows"
        )
    for subset, nfe in told.nfe.items():
        typer.echo(f"{subset}: {told.samples:,} samples of {nfe:g} evaluations")
    typer.echo(f"disk: about {told.megabytes:.0f} MB")


def _print_scores(folder: Path) -> None:
    """The scores in a few lines."""
    from mld.rundir import RunDir

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
