"""A suite's folder: the only code that knows the names of the files in it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import JsonValue

from mld.bench.suite import Coordinates
from mld.bench.trials import Trial, summarise_trials
from mld.storage import files, locks, outputs
from mld.storage.run_dir import RunDir
from mld_core import ExitCode, RunDirError

State = Literal["done", "failed", "open"]
CONTENT = "a suite"
"""What the mark of a suite's folder says that it holds."""
Failures = Sequence[tuple[str, str]]
"""A name for one or more failed trials, and why they failed."""


@dataclass(frozen=True)
class SuiteDir:
    """The folder of a suite: frozen specs, runs, logs, failures and the leaderboard."""

    path: Path

    def run_dir(self, trial: Trial) -> RunDir:
        """The run directory of a trial."""
        return RunDir(self.path / "trials" / trial.key)

    def spec(self, trial: Trial) -> Path:
        """The frozen spec of a trial."""
        return self.path / "specs" / f"{trial.key}.yaml"

    def log(self, trial: Trial) -> Path:
        """The output of a trial's run."""
        return self.path / "logs" / f"{trial.key}.log"

    @property
    def index(self) -> Path:
        """Coordinates, key and error of every trial."""
        return self.path / "trials.json"

    @property
    def results(self) -> Path:
        """The metrics of every finished trial, one row each."""
        return self.path / "leaderboard.csv"

    def _failure_file(self, trial: Trial) -> Path:
        return self.path / "failed" / f"{trial.key}.json"

    def state(self, trial: Trial) -> State:
        """Whether a trial is done, has failed, or is still to be run."""
        if trial.error:
            return "failed"
        if self.run_dir(trial).is_complete("report"):
            return "done"
        return "failed" if self._failure_file(trial).is_file() else "open"

    @contextmanager
    def lock(self, shard: str) -> Iterator[None]:
        """Keep out every other process, except those that run another shard of the same number.

        Args:
            shard: "I/N", or "" for the whole suite.

        Raises:
            RunDirError: if another process holds the folder.
        """
        shards = self.path / "shards"
        folder = shards / shard.replace("/", "-of-") if shard else self.path
        compatible = f"-of-{shard.partition('/')[2]}"
        with locks.locked(folder):
            others = [path for path in shards.glob("*") if not path.name.endswith(compatible)]
            for other in [self.path, *others] if shard else others:
                # Shards that start together check the same lock, each for a moment.
                if holder := locks.lock_holder(other, timeout=1):
                    raise RunDirError(
                        f"{other} is in use by {holder}: wait until it ends, or choose another "
                        "folder with --out"
                    )
            yield

    def check(self) -> None:
        """OutputError unless a suite can be written here, and nothing but a suite is here."""
        has_suite = self.index.is_file() and (self.path / "specs").is_dir()
        outputs.check_folder(self.path, CONTENT, has_suite)

    @contextmanager
    def claim(self, shard: str) -> Iterator[None]:
        """`check` the folder, `lock` it and mark it as a suite's."""
        self.check()
        with self.lock(shard):
            with self.write_lock():
                outputs.mark(self.path, CONTENT)
            yield

    @contextmanager
    def write_lock(self) -> Iterator[None]:
        """Keep other shards from writing the files that all of them write."""
        with files.writing(self.path):
            lock = FileLock(self.path / ".writing.lock").acquire()
        with lock:
            yield

    def freeze(self, trials: Iterable[Trial]) -> None:
        """Write the specs, and the index of all trials."""
        index: list[JsonValue] = []
        for trial in trials:
            coordinates = trial.coordinates.model_dump(mode="json")
            index.append({"key": trial.key, "error": trial.error, **coordinates})
            if trial.spec and not self.spec(trial).is_file():
                files.write_text(self.spec(trial), trial.spec)
        files.write_json(self.index, index)

    def seeds(self) -> list[int]:
        """The seeds of all trials run in this folder so far; empty for a new one."""
        trials = self.read_trials() if self.index.is_file() else []
        return list(dict.fromkeys(trial.coordinates.seed for trial in trials))

    def read_trials(self) -> list[Trial]:
        """The trials in the index, without their specs. RunDirError if there is no index."""
        if not self.index.is_file():
            raise RunDirError(f"{self.path} contains no suite: {self.index.name} is missing")
        trials = []
        for entry in files.load_json(self.index):
            key, error = entry.pop("key"), entry.pop("error")
            trials.append(Trial(Coordinates.model_validate(entry), "", key, error))
        return trials

    def mark_failed(self, trial: Trial, exit_code: int) -> None:
        """Record that a trial's run has failed, with the error at the end of its log."""
        log = self.log(trial)
        lines = (
            log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        )
        reason = _failure_reason(lines, exit_code)
        failure = self._failure_file(trial)
        files.write_json(failure, {"exit_code": exit_code, "reason": reason})

    def failure(self, trial: Trial) -> str:
        """Why a failed trial has failed, in one line."""
        if trial.error:
            return trial.error.partition("\n")[0]
        failure = files.load_json(self._failure_file(trial))
        return f"{failure['reason']} (exit code {failure['exit_code']})"

    def failures(self, trials: Iterable[Trial]) -> Failures:
        """The failed ones of some trials, grouped by the reason."""
        by_reason: dict[str, list[Trial]] = {}
        for trial in trials:
            if self.state(trial) == "failed":
                by_reason.setdefault(self.failure(trial), []).append(trial)
        failures = []
        for reason, (first, *others) in by_reason.items():
            log = self.log(first)
            has_log = log.is_file() and not first.error
            hint = f": see {log.relative_to(self.path)}" if has_log else ""
            failures.append((summarise_trials([first, *others]), f"{reason}{hint}"))
        return failures

    def clear_failure(self, trial: Trial) -> None:
        """Reset a failed trial, so that it is run again."""
        failure = self._failure_file(trial)
        with files.writing(failure):
            failure.unlink(missing_ok=True)


def _failure_reason(log: Sequence[str], exit_code: int) -> str:
    """The error message at the end of a log, or the signal that killed the run."""
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    lines = [line for line in log if line.strip()] or ["(no output)"]
    if exit_code == ExitCode.BUG:
        # The last line is mld's request to report the bug, after that of the traceback.
        return lines[-2:][0]
    starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    message = lines[starts[-1] :] if starts else lines[-1:]
    # A first line that ends with a colon needs the one after it.
    continuation = message[1:2] if message[0].endswith(":") else []
    return " ".join([message[0].removeprefix("error: "), *map(str.strip, continuation)])
