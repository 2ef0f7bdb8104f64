"""A run directory: the only code that knows the names of files inside a run.

Every file appears whole or not at all. A stage is finished once its marker exists; the marker
holds the digest of what the stage was made from and the sha256 of what it made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mld.storage import digests, files, locks
from mld.storage.digests import digest
from mld.storage.files import atomic_write, load_checked, load_json, load_tensors
from mld_core.errors import RunDirError

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor

Content = TypeVar("Content")

STAGES = ("data", "autoencode", "latents", "diffuse", "generate", "evaluate", "report")

# Which stage makes what lies under a name at the top of the run, or trains a job of that name.
_MAKERS = {
    "modalities": "data",
    "autoencoders": "autoencode",
    "latents": "latents",
    "diffusion": "diffuse",
    "samples": "generate",
    "classifiers": "evaluate",
    "metrics.json": "evaluate",
    "report.html": "report",
}
_TRAINERS = {"autoencode": "autoencode", "diffuse": "diffuse", "classify": "evaluate"}


@dataclass(frozen=True)
class RunDir:
    """One execution on disk. Makes nothing there until something is written."""

    path: Path

    @property
    def spec(self) -> Path:
        """The resolved spec."""
        return self.path / "spec.yaml"

    @property
    def provenance(self) -> Path:
        """Which code, libraries and machine made this run."""
        return self.path / "provenance.json"

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line; see `log` and `read_events`."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """The stage last entered, and its state."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """The scores."""
        return self.path / "metrics.json"

    @property
    def information(self) -> Path:
        """What the modalities tell about each other, once somebody has asked."""
        return self.path / "information.json"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    @property
    def error(self) -> Path:
        """The traceback of a failed run."""
        return self.path / "error.txt"

    @property
    def network(self) -> Path:
        """The score network's weights after the last update."""
        return self.path / "diffusion" / "network.safetensors"

    @property
    def ema(self) -> Path:
        """The moving average of the score network's weights."""
        return self.path / "diffusion" / "ema.safetensors"

    def facts(self, name: str) -> Path:
        """What a modality learnt from the training split."""
        return self.path / "modalities" / f"{name}.json"

    def autoencoder(self, name: str) -> Path:
        """The weights of a modality's autoencoder."""
        return self.path / "autoencoders" / f"{name}.safetensors"

    def classifier(self, name: str) -> Path:
        """The weights of a modality's classifier."""
        return self.path / "classifiers" / f"{name}.safetensors"

    def latents(self, split: str) -> Path:
        """The latent cache of a split."""
        return self.path / "latents" / f"{split}.safetensors"

    def checkpoint(self, job: str) -> Path:
        """Where a training job, such as "autoencode/digit", keeps what it needs to go on."""
        return self.path / "checkpoints" / f"{job.replace('/', '.')}.safetensors"

    def samples(self, observed: str) -> Path:
        """The folder of the samples given `observed`: "joint", or names joined by "+"."""
        return self.path / "samples" / observed

    def lock(self) -> AbstractContextManager[None]:
        """Keep every other process out of this run. RunDirError if one is already in."""
        return locks.locked(self.path)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole."""
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")

    def write_json(self, path: Path, value: JsonValue | Mapping[str, JsonValue]) -> None:
        """Write a value as JSON; NaN and infinity, which JSON has not, are a ValueError."""
        self.write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, path: Path) -> Any:
        """The value in a JSON file. RunDirError if it is missing or torn."""
        return self._read(load_json, path)

    def write_tensors(
        self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write tensors as a safetensors file that carries its own sha256."""
        files.save_tensors(path, tensors, metadata or {})

    def read_tensors(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file. RunDirError if they are not those that were written."""
        return self.read_tensors_and_metadata(path)[0]

    def read_tensors_and_metadata(self, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The same, and the metadata they were written with."""
        return self._read(load_tensors, path)

    def log(self, event: str, **fields: JsonValue) -> None:
        """Add one line to events.jsonl."""
        files.append_line(self.events, {"time": _now(), "event": event, **fields})

    def read_events(self) -> list[dict[str, Any]]:
        """All events in order, without the half lines of killed processes.

        A resumed training repeats the steps since its last checkpoint: the later event holds.
        """
        return files.read_lines(self.events)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[], float]]:
        """Tell events.jsonl and status.json how a stage fares; gives its seconds so far."""
        began = time.monotonic()

        def seconds() -> float:
            return round(time.monotonic() - began, 3)

        self._tell(name, "started", None)
        try:
            yield seconds
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            self._tell(name, "interrupted" if stopped else "failed", seconds())
            raise
        self._tell(name, "finished", seconds())

    def _tell(self, stage: str, state: str, seconds: float | None) -> None:
        self.log("stage", stage=stage, state=state, seconds=seconds)
        self.write_json(self.status, {"stage": stage, "state": state, "time": _now()})

    def has(self, stage: str) -> bool:
        """Whether a stage has its marker."""
        return self._marker(stage).is_file()

    def demand(self, stage: str) -> None:
        """RunDirError unless a stage is finished and all it made is intact."""
        if not self.has(stage):
            told = f"{self.path} has not finished stage {stage}: carry on with `mld run`"
            raise RunDirError(told)
        for name, own in self._read_marker(stage)["files"].items():
            path = self.path / name
            if not path.is_file():
                raise RunDirError(f"{path} is missing: {_remedy(stage)}")
            if digests.file_digest(path) != own:
                raise RunDirError(f"{path} is not as stage {stage} wrote it: {_remedy(stage)}")

    def demand_same(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> None:
        """RunDirError, telling the differences, unless a stage was made from just this."""
        marker = self._read_marker(stage)
        if marker["digest"] != digest(fingerprint):
            changed = "\n".join(digests.differences(marker["made_from"], fingerprint))
            raise RunDirError(
                f"stage {stage} of {self.path} was made by another spec:\n{changed}\n"
                f"recompute it and all after it with `mld run SPEC --from-stage {stage}`, or "
                "choose another folder with --out"
            )

    def finished(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> bool:
        """Whether a stage is done. RunDirError if not from just this, or not intact any more."""
        if done := self.has(stage):
            self.demand_same(stage, fingerprint)
            self.demand(stage)
        return done

    def read_back(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> bool:
        """`finished`, and then told in the event log."""
        if done := self.finished(stage, fingerprint):
            self.log("stage", stage=stage, state="read back", seconds=0)
        return done

    def finish(
        self,
        stage: str,
        fingerprint: Mapping[str, JsonValue],
        paths: Iterable[Path],
        seconds: float,
        facts: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Mark a stage as done, once all its files lie in their places."""
        marker = {
            "digest": digest(fingerprint),
            "made_from": dict(fingerprint),
            "files": {
                path.relative_to(self.path).as_posix(): digests.file_digest(path)
                for path in sorted(paths)
            },
            "seconds": seconds,
            "facts": dict(facts or {}),
        }
        self.write_json(self._marker(stage), files.with_checksum(marker))

    def facts_of(self, stage: str) -> dict[str, Any]:
        """What a finished stage noted about itself."""
        return dict(self._read_marker(stage)["facts"])

    def seconds_of(self, stage: str) -> float:
        """How long a finished stage took."""
        return float(self._read_marker(stage)["seconds"])

    def digest(self, stage: str) -> str:
        """The digest of what a finished stage was made from."""
        return str(self._read_marker(stage)["digest"])

    def redo(self, stage: str) -> None:
        """Forget that a stage and those after it are done; their checkpoints go too."""
        again = STAGES[STAGES.index(stage) :]
        # From the last to the first: if this is cut short, no stage outlives one before it.
        for name in reversed(again):
            self._marker(name).unlink(missing_ok=True)
        for path in (self.path / "checkpoints").glob("*.safetensors"):
            if _TRAINERS.get(path.name.partition(".")[0]) in again:
                path.unlink()

    def _marker(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _read_marker(self, stage: str) -> dict[str, Any]:
        return self._read(load_checked, self._marker(stage))

    def _read(self, load: Callable[[Path], Content], path: Path) -> Content:
        """A file's content; a complaint about it says which stage to redo."""
        try:
            return load(path)
        except RunDirError as error:
            stage = _maker(path.relative_to(self.path))
            raise RunDirError(f"{error}: {_remedy(stage)}") from error


def _maker(path: Path) -> str:
    """The stage that makes a file of a run."""
    top, job = path.parts[0], path.name.partition(".")[0]
    own = {"stages": path.stem, "checkpoints": _TRAINERS.get(job, "STAGE")}
    return own.get(top) or _MAKERS.get(top, "STAGE")


def _remedy(stage: str) -> str:
    return f"recompute it with `mld run SPEC --from-stage {stage}`"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
