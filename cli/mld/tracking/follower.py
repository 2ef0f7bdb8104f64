"""Handing a run's event log on to a tracker, while the run goes on."""

from __future__ import annotations

import sys
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from mld.config.plugin_sections import TrackSpec
from mld.storage.files import load_checksummed_json, with_checksum, write_json
from mld.storage.run_dir import RunDir
from mld.storage.stages import EVALUATE, GENERATE
from mld.tracking.scalars import new_scalars, scalars_of, score_scalars, valid_events
from mld_core import RunDirError, SampleFile, TrackedRun, Tracker, describe_exception

POLL_SECONDS = 2.0
"""How long the log is left alone between two readings."""
CLOSE_SECONDS = 60.0
"""How long a run that has ended waits for its tracker."""
MAX_ROWS = 4
"""Samples of each conditioning subset that a tracker shows."""


@contextmanager
def tracked(
    spec: TrackSpec,
    tracker_class: type[Tracker],
    run_dir: RunDir,
    name: str,
    settings: Mapping[str, JsonValue],
) -> Iterator[None]:
    """Hand the run's log on to a tracker until the block ends.

    What the tracker does not have yet of earlier processes of the run is handed on too. A tracker
    that fails is a warning, once, and followed no longer.

    Args:
        spec, tracker_class: of the tracker.
        name: of the experiment.
        settings: its resolved spec.
    """
    follower = _Follower(spec, tracker_class, run_dir, name, settings)
    thread = threading.Thread(target=follower.run, name=f"tracker {spec.kind}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        follower.ended.set()
        thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            follower.warn(f"did not end within {CLOSE_SECONDS:g} s, and may miss the last numbers")


class _Follower:
    """What one thread does for one tracker."""

    def __init__(
        self,
        spec: TrackSpec,
        tracker_class: type[Tracker],
        run_dir: RunDir,
        name: str,
        settings: Mapping[str, JsonValue],
    ) -> None:
        self.spec, self.tracker_class = spec, tracker_class
        self.run_dir, self.name, self.settings = run_dir, name, settings
        self.ended = threading.Event()
        self.record_path = run_dir.tracking(f"{spec.kind}.json")
        events, self.place = run_dir.events_after(0)
        self.events, self.recomputed = valid_events(events)
        self.last_steps: dict[str, int] = {}
        self.samples = ""
        """The digest of the stage whose samples the tracker has."""

    def warn(self, message: str) -> None:
        warnings.warn(f"tracker {self.spec.kind!r} {message}; the run goes on", stacklevel=2)

    def run(self) -> None:
        """Follow the log until the run has ended. Raises nothing."""
        try:
            # What a tracker prints is no result of the command.
            with redirect_stdout(sys.stderr):
                self._follow()
        except BaseException as error:
            self.warn(f"failed: {describe_exception(error)}")

    def _follow(self) -> None:
        key = self._read_record()
        name = self.name if not self.recomputed else f"{self.name}-{self.recomputed + 1}"
        folder = self.run_dir.tracking(self.spec.kind) / name
        run = TrackedRun(name, key, folder, self.settings)
        config: Any = self.spec.config
        tracker = self.tracker_class(config, run)
        try:
            steps = tracker.last_steps()
            if steps is not None:
                self.last_steps = dict(steps)
            while True:
                is_last = self.ended.is_set()
                events, self.place = self.run_dir.events_after(self.place)
                self._hand_on(tracker, [*self.events, *events], key)
                self.events = []
                if is_last:
                    break
                self.ended.wait(POLL_SECONDS)
        finally:
            tracker.close()

    def _hand_on(self, tracker: Tracker, events: Sequence[Mapping[str, Any]], key: str) -> None:
        """Hand on what events say that the tracker does not have."""
        if not events:
            return
        scalars = [each for each in map(scalars_of, events) if each is not None]
        done = {event["stage"]: event for event in events if event["event"] == "stage"}
        done = {
            stage: event
            for stage, event in done.items()
            if event["state"] in ("finished", "reused") and self.run_dir.is_complete(stage)
        }
        if evaluated := done.get(EVALUATE.name):
            metrics = self.run_dir.read_json(self.run_dir.metrics)
            last = scalars_of({**evaluated, "state": "finished"})
            scalars.append(score_scalars(metrics, last.time if last else 0.0))
        if new := list(new_scalars(scalars, self.last_steps)):
            tracker.log(new)
        digest = self.run_dir.stage_digest(GENERATE.name) if GENERATE.name in done else ""
        if digest and digest != self.samples:
            tracker.log_samples(list(sample_files(self.run_dir)))
            self.samples = digest
        tracker.flush()
        self._write_record(key)

    def _read_record(self) -> str:
        """Read what earlier processes have handed on; returns the key of the run."""
        try:
            record = load_checksummed_json(self.record_path)
        except RunDirError:
            record = {}
        if record.get("recomputed") == self.recomputed:
            self.last_steps, self.samples = record["last_steps"], record["samples"]
            return str(record["key"])
        return uuid.uuid4().hex[:12]

    def _write_record(self, key: str) -> None:
        content: dict[str, JsonValue] = {
            "key": key,
            "recomputed": self.recomputed,
            "last_steps": {**self.last_steps},
            "samples": self.samples,
        }
        write_json(self.record_path, with_checksum(content))


def sample_files(run_dir: RunDir) -> Iterator[SampleFile]:
    """The files of the first samples of each conditioning subset, without what they were given."""
    for index in sorted(run_dir.samples("").glob("*/index.json")):
        for row, entry in enumerate(run_dir.read_json(index)["rows"][:MAX_ROWS]):
            for name, cell in entry["cells"].items():
                if cell["role"] == "generated":
                    for file in (cell["file"], *cell["previews"]):
                        path = run_dir.inside(index.parent / file)
                        title = f"samples/{index.parent.name}/{name}/{row:04d}"
                        yield SampleFile(title, Path(path), cell["cell"])
