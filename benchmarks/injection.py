"""A part of faults.py: mld in a child process, with a fault at one moment of its work.

A moment is a training step, a network evaluation, or a part of the writing of a file. Its name
tells what is being done, so it is the same in a command that resumes another.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pkgutil
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import wraps
from importlib import import_module
from inspect import signature
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import lightning_fabric  # noqa: F401

import mld
import mld_datasets  # noqa: F401
import mld_image  # noqa: F401
import mld_text  # noqa: F401
from mld.app import main
from mld.inference import impute, samples
from mld.pipeline import generate
from mld.runtime import mld_process
from mld.storage import files, run_dir
from mld.storage.run_dir import RunDir
from mld.training import loop, train
from mld_core.diffusion.reverse_process import ReverseProcess

for _module in pkgutil.walk_packages(mld.__path__, "mld."):
    if "template" not in _module.name:
        import_module(_module.name)  # once, before the child processes

HANG_SECONDS = 900
"""After which a command counts as hung."""
YEARS = (-40, -1, 0, 1, 60)
"""By how much a jumping clock is wrong at each look."""
FAULT = "MLD_BENCHMARK_FAULT"
"""The environment variable that hands a fault on to the runs of a suite."""
LEFT_OUT = (".lock", ".lock.json", "status.json", "leaderboard.html", "leaderboard.md", "store")
"""Files that differ without any fault, and the store of weights; also *.lock and *.log."""
DIGEST_LENGTH = 64
"""Of the names of files in the store."""
TIMES = ("seconds", "seconds_per_sample", "training_seconds", "time", "rate", "finished", "sha256")
"""Keys of JSON that hold times, or digests of values with times."""
TIMES_IN_TEXT = r"\w+ took |\d{4}-\d\d-\d\d[T ][\d:.+]+|(\d[\d.,]* (ms|s|min|h)\b ?)+"
"""What is left out of pages: dates, durations, and the stage that took longest."""
TIMED_FILES = ("metrics.json", "provenance.json", "report.html")
"""Files with times, whose digests in a marker therefore differ."""


@dataclass(frozen=True)
class Moment:
    """A moment of a command's work."""

    stage: str
    name: str


@dataclass(frozen=True)
class Fault:
    """What happens to a command.

    Args:
        moment: when it happens; None for never.
        action: "kill" (SIGKILL), "terminate" (SIGTERM) or "hold" (wait until `hold` exists).
        checkpoint_seconds: between the checkpoints of its trainings.
        clock: whether its clock jumps by years.
        file_bytes: the length beyond which no file grows, as if the disk were full.
        log: where it writes the moments that it reaches.
    """

    moment: Moment | None = None
    action: str = "kill"
    checkpoint_seconds: float = 0
    clock: bool = False
    file_bytes: int | None = None
    log: str = ""
    hold: str = ""

    def to_json(self) -> str:
        """The fault as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Fault:
        """What `to_json` has written."""
        fields = json.loads(text)
        moment = fields.pop("moment")
        return cls(moment and Moment(**moment), **fields)


@dataclass(frozen=True)
class Outcome:
    """What a command has left: its exit code, minus the signal that ended it, and its output."""

    code: int
    stdout: str
    stderr: str
    moments: Sequence[Moment]

    @property
    def crashed(self) -> bool:
        """Whether it printed a traceback."""
        return "Traceback" in self.stderr or "internal error" in self.stderr


class Command:
    """An `mld` command in a fork of this process, which has imported everything."""

    def __init__(self, folder: Path, args: Sequence[str], fault: Fault = Fault()) -> None:
        self._logs = TemporaryDirectory(prefix="mld-faults-")
        logs = Path(self._logs.name)
        self.hold = logs / "go"
        fault = replace(fault, log=str(logs / "moments"), hold=str(self.hold))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._pid = os.fork()
        if self._pid == 0:
            _run_as_child(folder, args, fault, logs)

    def reached(self) -> Sequence[Moment]:
        """The moments that it has reached so far."""
        log = Path(self._logs.name) / "moments"
        lines = log.read_text().splitlines() if log.exists() else []
        return [Moment(*line.split("\t")) for line in lines]

    def wait(self) -> Outcome:
        """Wait until it ends."""
        _, status = os.waitpid(self._pid, 0)
        with self._logs as folder:
            stdout, stderr = ((Path(folder) / name).read_text() for name in ("stdout", "stderr"))
            return Outcome(os.waitstatus_to_exitcode(status), stdout, stderr, self.reached())


def run_mld(folder: Path, args: Sequence[str], fault: Fault = Fault()) -> Outcome:
    """Run `mld` in a folder."""
    return Command(folder, args, fault).wait()


def _run_as_child(folder: Path, args: Sequence[str], fault: Fault, logs: Path) -> None:
    code: Any = 1
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in (1, "stdout"), (2, "stderr"):
            os.dup2(os.open(logs / name, os.O_CREAT | os.O_WRONLY), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["mld", *args]
        os.environ["MLD_STORE"] = "store"
        signal.alarm(HANG_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (HANG_SECONDS, HANG_SECONDS))
        if fault.file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_bytes, fault.file_bytes))
        Work(fault, args[0]).watch()
        main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def watch_run_of_suite() -> None:
    """In a run that a suite has started: a fault happens to the suite, and with it to the run."""
    fault = Fault.from_json(os.environ[FAULT])
    Work(fault, "bench", prefix=f"{Path(sys.argv[-1]).name[:4]} ", victim=os.getppid()).watch()


@dataclass
class Work:
    """The work of this process, watched for the moment of a fault.

    Args:
        stage: that of the first moments.
        prefix: of the names of all moments.
        victim: the process to which the fault happens.
    """

    fault: Fault
    stage: str
    prefix: str = ""
    victim: int = field(default_factory=os.getpid)
    doing: str = ""
    evaluations: int = 0

    def watch(self) -> None:
        """Patch all places of which this class knows."""
        self.stage = "data" if self.stage == "run" else self.stage
        _around(loop.Trainer, "forward_backward", self.step)
        _around(ReverseProcess, "noise_at", self.evaluation)
        _around(generate, "_sample", self.subset)
        _around(samples.SampleRequest, "batch", self.samples)
        _around(impute._Imputer, "_fill_batch", self.rows)
        _around(Path, "replace", self.rename)
        _around(files, "_append", self.line)
        for module in (generate, samples, impute):
            _around(module, "write_item", self.item)
        _around(train, "fit", self.fit)
        if not self.prefix:
            _around(RunDir, "stage", self.begin_stage)
        if self.fault.clock:
            _let_clock_jump()
        self.open_log(Path(self.fault.log))
        os.environ[FAULT] = self.fault.to_json()
        folder, bootstrap = str(Path(__file__).parent), mld_process.BOOTSTRAP
        watch = f"import sys; sys.path.insert(0, {folder!r}); import injection; "
        mld_process.BOOTSTRAP = f"{watch}injection.watch_run_of_suite(); {bootstrap}"

    def open_log(self, path: Path) -> None:
        """Append to a log of all moments, which runs of a suite share."""
        self._log = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def reach(self, name: str, spoil: Callable[[], object] | None = None) -> None:
        """Let the fault happen if this is its moment.

        Args:
            spoil: what a kill leaves half done.
        """
        moment = Moment(self.stage, f"{self.prefix}{name}")
        if spoil and self.fault.action == "terminate":
            return
        os.write(self._log, f"{moment.stage}\t{moment.name}\n".encode())
        if moment != self.fault.moment:
            return
        if self.fault.action == "hold":
            while not Path(self.fault.hold).exists():
                time.sleep(0.02)
        elif self.fault.action == "terminate":
            self.fault = replace(self.fault, moment=None)
            os.kill(self.victim, signal.SIGTERM)
        else:
            if spoil:
                spoil()
            os.kill(self.victim, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    def begin(self, doing: str) -> None:
        """Say what the next moments belong to."""
        self.doing, self.evaluations = doing, 0

    def begin_stage(self, original: Any, run_dir: Any, name: str, *args: Any) -> Any:
        """A stage of a run."""
        self.stage = name
        self.begin("")
        return original(run_dir, name, *args)

    def step(self, original: Any, trainer: Any, stop: bool) -> Any:
        """A training step."""
        self.begin(f"{trainer.job.name} step {trainer.step + 1}")
        self.reach(self.doing)
        return original(trainer, stop)

    def subset(self, original: Any, *args: Any) -> Any:
        """Samples of one subset in stage generate."""
        self.begin(f"given {'+'.join(args[4]) or 'nothing'}")
        return original(*args)

    def samples(self, original: Any, request: Any, rows: range) -> Any:
        """A batch of `mld sample`."""
        self.begin(f"samples from {rows.start}")
        return original(request, rows)

    def rows(self, original: Any, imputer: Any, batch: list[int], *args: Any) -> Any:
        """A batch of `mld impute`."""
        self.begin(f"rows from {batch[0]}")
        return original(imputer, batch, *args)

    def evaluation(self, original: Any, *args: Any) -> Any:
        """One evaluation of the score network."""
        self.evaluations += 1
        self.reach(f"{self.doing}, evaluation {self.evaluations}")
        return original(*args)

    def rename(self, original: Any, partial: Path, target: Path) -> Any:
        """The end of the atomic writing of a file."""
        name = f"{target.parent.name}/{target.name}"
        if target.parent.name == "checkpoints":
            name = f"{self.doing}, checkpoint"
        elif len(target.stem) == DIGEST_LENGTH:  # in the weight store
            name = f"{self.doing}, store"
        size = partial.stat().st_size
        self.reach(f"{name}, half", lambda: os.truncate(partial, size // 2))
        self.reach(f"{name}, not renamed")
        result = original(partial, target)
        self.reach(f"{name}, renamed")
        return result

    def line(self, original: Any, path: Path, line: bytes) -> Any:
        """A line of a log."""
        name = f"{self.doing}, line of {path.name}".strip(", ")
        self.reach(f"{name}, half", lambda: original(path, line[: len(line) // 2]))
        place = original(path, line)
        self.reach(name)
        return place

    def item(self, original: Any, modality: Any, x: Any, stem: Path) -> Any:
        """The file of a sample."""
        cell, paths = original(modality, x, stem)
        half = paths[0].stat().st_size // 2
        name = "/".join(stem.parts[-3:])
        self.reach(f"{name}, half", lambda: os.truncate(paths[0], half))
        self.reach(name)
        return cell, paths

    def fit(self, original: Any, *args: Any) -> Any:
        """A training, with another time between its checkpoints."""
        arguments = signature(original).bind(*args).arguments
        arguments["checkpoint_seconds"] = self.fault.checkpoint_seconds
        return original(**arguments)


def _around(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    """Replace a function or a method by `hook`, whose first argument is the original."""
    original = getattr(owner, name)
    setattr(owner, name, wraps(original)(lambda *args, **named: hook(original, *args, **named)))


def _let_clock_jump() -> None:
    """Let every look at the clock be wrong by years."""
    rng, seconds = Random(0), time.time

    def offset() -> timedelta:
        return timedelta(days=365 * rng.choice(YEARS))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + offset()

    time.time = lambda: seconds() + offset().total_seconds()
    run_dir.datetime = Clock  # type: ignore[attr-defined]


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder, of what is left without times, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_without_times(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not {*path.parts} & {*LEFT_OUT}
        and path.suffix not in (".lock", ".log")
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names that are not the same in two results of `contents`."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _without_times(path: Path) -> bytes:
    if path.name == "events.jsonl":
        return json.dumps(list(_events(path))).encode()
    if path.suffix == ".jsonl":
        return json.dumps(files.read_lines(path)).encode()
    if path.suffix == ".json" and (value := _read_json(path)) is not None:
        return json.dumps(_drop_times(value)).encode()
    if path.suffix == ".csv":
        with path.open(newline="", errors="replace") as file:
            return json.dumps([_drop_times(row) for row in csv.DictReader(file)]).encode()
    if path.suffix == ".html":
        return re.sub(TIMES_IN_TEXT, "", path.read_text(errors="replace")).encode()
    return path.read_bytes()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _drop_times(value: Any) -> Any:
    if isinstance(value, dict):
        untimed = {key: each for key, each in value.items() if key not in (*TIMES, *TIMED_FILES)}
        return {key: _drop_times(each) for key, each in untimed.items()}
    return [_drop_times(each) for each in value] if isinstance(value, list) else value


def _events(path: Path) -> Iterator[Any]:
    """The last event of each training step, and the warnings, without times."""
    events = [_drop_times(event) for event in files.read_lines(path)]
    steps = {(each["job"], each["step"]): each for each in events if each["event"] == "train"}
    yield from (steps[key] for key in sorted(steps))
    warnings = {json.dumps(each) for each in events if each["event"] == "warning"}
    yield from sorted(warnings)
