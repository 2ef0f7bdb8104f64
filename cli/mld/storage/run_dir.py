"""A run directory: the only code that knows the names of files inside a run.

Every file is written under a temporary name and then renamed. A stage is complete once its marker
exists; the marker holds the fingerprint of the stage's inputs and the sha256 of its files.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mld.storage import files
from mld.storage.digests import differences, digest, file_digest
from mld.storage.locks import lock_record, locked
from mld.storage.outputs import MARK, check_folder, claimed, probe
from mld.storage.stages import DATA, PIPELINE, STAGE_NAMES, Stage, stage_of_job
from mld_core.errors import OutputError, RunDirError, describe_exception

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor, nn

Content = TypeVar("Content")

CONTENT = "a run"
"""What the mark of a run directory says that it holds."""
FORMAT = 1
"""Version of the format of a run directory, which its mark holds. It increases with every change
after which an older mld cannot load a run."""
MACHINE_SETTINGS = {
    "precision": "go on with --set compute.precision={}",
    "threads": "go on with --set compute.threads={}",
}
"""Keys of a fingerprint whose value "auto" depends on the machine, and how to keep the old one."""

OPAQUE_DIGESTS = {"rows": "the dataset gives other rows"}
"""Keys of a fingerprint whose values say nothing to a reader, and what a change of one means."""


class _File:
    """The path of a file with a fixed name, as an attribute of a run directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run_dir: RunDir, owner: type[RunDir]) -> Path:
        return run_dir.path / self._name


@dataclass(frozen=True)
class RunDir:
    """One run on disk. Creates nothing there until something is written.

    Args:
        linked: a folder outside of the run into which links in it may lead, such as the hub's cache
            of a run's repository.
    """

    path: Path
    linked: Path | None = field(default=None, kw_only=True)

    spec = _File("spec.yaml")
    """The resolved spec."""
    provenance = _File("provenance.json")
    """Code, libraries and machine of this run."""
    invalid_items = _File("invalid.csv")
    """The items that cannot be used, if there are any."""
    events = _File("events.jsonl")
    """The event log, one JSON object a line; see `log` and `read_events`."""
    status = _File("status.json")
    """The stage entered last, and its state."""
    metrics = _File("metrics.json")
    """The scores."""
    information = _File("information.json")
    """Information measures, once `mld information` has estimated them."""
    report = _File("report.html")
    """The report, one self-contained page."""
    error = _File("error.txt")
    """The traceback of a failed run."""
    network = _File("diffusion/network.safetensors")
    """The joint model's weights after the last step."""
    present = _File("latents/present.safetensors")
    """Which modalities each row of every split has, one tensor a split."""
    standardiser = _File("latents/standardiser.safetensors")
    """The statistics of the training latents."""
    judge = _File("judge.safetensors")
    """The weights of the judge of pairs, if there is one."""
    ema = _File("diffusion/ema.safetensors")
    """The moving average of the score network's weights."""

    def modality_facts(self, name: str) -> Path:
        """What a modality's `fit` returned for the training split."""
        return self.path / "modalities" / f"{name}.json"

    def autoencoder(self, name: str) -> Path:
        """The weights of a modality's autoencoder."""
        return self.path / "autoencoders" / f"{name}.safetensors"

    def classifier(self, name: str) -> Path:
        """The weights of a modality's classifier."""
        return self.path / "classifiers" / f"{name}.safetensors"

    def plot(self, name: str) -> Path:
        """The picture of a modality's samples beside the truth."""
        return self.path / "plots" / f"{name}.svg"

    def latents(self, split: str) -> Path:
        """The raw joint latents of a split, a float32 array."""
        return self.path / "latents" / f"{split}.npy"

    def tracking(self, name: str) -> Path:
        """The folder of what a tracker keeps of a run; beside it, what it was handed."""
        return self.path / "tracking" / name

    def checkpoint(self, job: str) -> Path:
        """The checkpoint of a training job, such as "autoencode/digit"."""
        return self.path / "checkpoints" / f"{job.replace('/', '.')}.safetensors"

    def samples(self, observed: str) -> Path:
        """The folder of samples given `observed`: "joint", or names joined by "+"."""
        return self.path / "samples" / observed

    def check_readable(self) -> None:
        """RunDirError if this mld must not read the run.

        It may have been written by a later version, or come from a stranger and have a link that
        leads out of it, through which it would read or write elsewhere.
        """
        for folder, names, file_names in os.walk(self.path):
            for path in (Path(folder, name) for name in [*names, *file_names]):
                if path.is_symlink():
                    self.inside(path)
                elif not (path.is_file() or path.is_dir()):
                    raise RunDirError(f"{path} is neither a file nor a folder: delete it")
        if self.format > FORMAT:
            raise RunDirError(
                f"{self.path} was written by a later version of mld, in format {self.format} of "
                f"run directories; this one reads up to {FORMAT}: pip install -U mld-toolkit"
            )

    @property
    def format(self) -> int:
        """Version of the run's format; 1 for a run that does not say it. RunDirError if corrupt."""
        mark = self.path / MARK
        if not mark.is_file():
            return 1
        try:
            content = files.load_checksummed_json(mark)
        except RunDirError as error:
            raise RunDirError(f"{error}: delete it if {self.path} holds a run") from error
        with self.content_of(mark):
            return int(content.get("format", 1))

    def inside(self, path: Path) -> Path:
        """A path that a file of the run names. RunDirError if it leads out of the run."""
        target = Path(os.path.realpath(path))
        roots = [os.path.realpath(root) for root in (self.path, self.linked) if root]
        if not any(target.is_relative_to(root) for root in roots):
            raise RunDirError(f"{path} leads out of the run, to {target}: do not use this run")
        return path

    @contextmanager
    def content_of(self, path: Path) -> Iterator[None]:
        """Turn an exception about the content of a file of the run into a RunDirError."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            stage = _stage_of_path(path.relative_to(self.path)) if path != self.path else "STAGE"
            reason = f"{path} does not hold what mld writes there: {describe_exception(error)}"
            raise RunDirError(f"{reason}: {_remedy(stage)}") from error

    def check(self) -> None:
        """OutputError unless a run can be written here, and nothing but a run is here.

        RunDirError as of `check_readable`.
        """
        self.check_readable()
        check_folder(self.path, CONTENT, self.is_complete(DATA.name))

    def probe(self) -> None:
        """OutputError unless more can be written to this run."""
        with files.writing(self.path):
            probe(self.path)

    def claim(self) -> AbstractContextManager[None]:
        """Check the directory, keep every other process out of it, and mark it as a run's."""
        self.check_readable()
        return claimed(self.path, CONTENT, self.is_complete(DATA.name), FORMAT)

    def lock(self) -> AbstractContextManager[None]:
        """Keep every other process out of this run. RunDirError if another one holds the lock."""
        self.check_readable()
        return locked(self.path)

    def lock_record(self) -> str:
        """What the process that locks this run has written, as seen from here; "" if nothing."""
        return lock_record(self.path)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file."""
        files.write_text(path, text)

    def write_spec(self, text: str) -> None:
        """Write the resolved spec, with its own sha256 in a comment."""
        files.write_sealed_text(self.spec, text)

    def read_spec(self) -> str:
        """The resolved spec. RunDirError if it is missing or not as written."""
        try:
            return files.load_sealed_text(self.spec)
        except RunDirError as error:
            raise RunDirError(f"{error}: `mld run SPEC` writes it again") from error

    def write_json(self, path: Path, value: Mapping[str, JsonValue]) -> None:
        """Write a mapping as JSON that carries its own sha256.

        ValueError for NaN and infinity, which JSON does not have.
        """
        files.write_json(path, files.with_checksum(value))

    def read_json(self, path: Path) -> dict[str, Any]:
        """The mapping in a JSON file. RunDirError if it is not as written."""
        return self._read(files.load_checksummed_json, path)

    def write_tensors(
        self, path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write tensors as a safetensors file that carries its own sha256."""
        files.save_tensors(path, tensors, metadata or {})

    def read_tensors(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file. RunDirError if they are not as written."""
        return self.read_tensors_and_metadata(path)[0]

    def read_tensors_and_metadata(self, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors of a file and its metadata. RunDirError if they are not as written."""
        return self._read(files.load_tensors, path)

    def array_layout(self, path: Path) -> tuple[tuple[int, ...], int]:
        """The shape of the float32 array of an .npy file, and the place of its first byte there.

        RunDirError if it holds none.
        """
        return self._read(files.array_layout, path)

    def load_weights(self, network: nn.Module, path: Path) -> None:
        """Load the weights of a file. RunDirError if they are not those of the network."""
        weights = self.read_tensors(path)
        with self.content_of(path):
            network.load_state_dict(weights)

    def log(self, event: str, **fields: JsonValue) -> None:
        """Append an event, with its own sha256, to events.jsonl."""
        value: dict[str, JsonValue] = {"time": _now(), "event": event, **fields}
        files.append_line(self.events, files.with_checksum(value))

    def warn(self, stage: str, message: str) -> None:
        """Log a warning of a stage, which the report shows, and issue it as a UserWarning."""
        self.log("warning", stage=stage, message=message)
        warnings.warn(message, stacklevel=2)

    def read_events(self) -> list[dict[str, Any]]:
        """All events in order, without lines that a killed process left unfinished.

        A resumed training repeats the steps since its last checkpoint: the later event is valid.
        RunDirError if an event has changed.
        """
        try:
            return files.read_checksummed_lines(self.events)
        except RunDirError as error:
            advice = "delete it, which loses only the curves and warnings of the report"
            raise RunDirError(f"{error}: {advice}") from error

    def events_after(self, place: int) -> tuple[list[dict[str, Any]], int]:
        """The whole events after a place in the log, without a check, and the place behind them."""
        return files.read_lines_after(self.events, place)

    @contextmanager
    def stage(self, name: str, earlier_seconds: float = 0.0) -> Iterator[Callable[[], float]]:
        """Log a stage's start and outcome; yields a function that returns the elapsed seconds.

        Args:
            earlier_seconds: elapsed before.
        """
        start = time.monotonic() - earlier_seconds

        def seconds() -> float:
            return round(time.monotonic() - start, 3)

        self._record_state(name, "started", None)
        try:
            yield seconds
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            with suppress(OutputError):  # the disk may be what has failed
                self._record_state(name, "interrupted" if interrupted else "failed", seconds())
            raise
        self._record_state(name, "finished", seconds())

    def _record_state(self, stage: str, state: str, seconds: float | None) -> None:
        self.log("stage", stage=stage, state=state, seconds=seconds)
        self.write_json(self.status, {"stage": stage, "state": state, "time": _now()})

    def is_complete(self, stage: str) -> bool:
        """Whether a stage has its marker."""
        return self._marker(stage).is_file()

    def verify_stage(self, stage: str) -> None:
        """RunDirError unless a stage is complete and its files are as it wrote them."""
        if not self.is_complete(stage):
            raise RunDirError(
                f"{self.path}: stage {stage} is incomplete; run `mld run SPEC` to finish it"
            )
        for name, sha256 in self._read_marker(stage)["files"].items():
            path = self.inside(self.path / name)
            if not path.is_file():
                raise RunDirError(f"{path} is missing: {_remedy(stage)}")
            if file_digest(path) != sha256:
                raise RunDirError(f"{path} is not as stage {stage} wrote it: {_remedy(stage)}")

    def check_fingerprint(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> None:
        """RunDirError with the differences unless a complete stage has just this fingerprint."""
        marker = self._read_marker(stage)
        if marker["digest"] == digest(fingerprint):
            return
        before = marker["fingerprint"]
        lines = [
            f"{self.path}: stage {stage} is out of date, because its inputs have changed:",
            *differences(before, fingerprint, MACHINE_SETTINGS, OPAQUE_DIGESTS),
        ]
        same = [key for key in fingerprint if before.get(key) == fingerprint[key]]
        changed = {*before, *fingerprint} - {*same, *MACHINE_SETTINGS}
        if changed == {*OPAQUE_DIGESTS}:
            lines.append("  its settings are the same: a file that the dataset reads has changed")
        if changed:
            lines.append(
                "recompute it and the stages after it with "
                f"`mld run SPEC --from-stage {stage}`, or choose another folder with --out"
            )
        raise RunDirError("\n".join(lines))

    def is_current(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> bool:
        """Whether a stage is complete. RunDirError if it is, but out of date or not intact."""
        if complete := self.is_complete(stage):
            self.check_fingerprint(stage, fingerprint)
            self.verify_stage(stage)
        return complete

    def reuse(self, stage: str, fingerprint: Mapping[str, JsonValue]) -> bool:
        """`is_current`, logged as an event if so."""
        if current := self.is_current(stage, fingerprint):
            self.log("stage", stage=stage, state="reused", seconds=0)
        return current

    def mark_complete(
        self,
        stage: str,
        fingerprint: Mapping[str, JsonValue],
        paths: Iterable[Path],
        seconds: float,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Write a stage's marker, once all its files are in place."""
        marker: dict[str, JsonValue] = {
            "digest": digest(fingerprint),
            "fingerprint": dict(fingerprint),
            "files": {
                path.relative_to(self.path).as_posix(): file_digest(path) for path in sorted(paths)
            },
            "seconds": seconds,
            "metadata": dict(metadata or {}),
        }
        self.write_json(self._marker(stage), marker)

    def stage_metadata(self, stage: str) -> dict[str, Any]:
        """What a complete stage recorded about itself."""
        return dict(self._read_marker(stage)["metadata"])

    def stage_fingerprint(self, stage: str) -> dict[str, Any]:
        """What decided the result of a complete stage."""
        return dict(self._read_marker(stage)["fingerprint"])

    def stage_files(self, stage: str) -> list[Path]:
        """The files of a complete stage."""
        return [self.inside(self.path / name) for name in self._read_marker(stage)["files"]]

    def stage_seconds(self, stage: str) -> float:
        """How long a complete stage took."""
        return float(self._read_marker(stage)["seconds"])

    def stage_bytes(self, stage: str) -> dict[str, int]:
        """The size of a complete stage's files, by the suffix of their names."""
        sizes: Counter[str] = Counter()
        for name in self._read_marker(stage)["files"]:
            path = self.path / name
            sizes[path.suffix] += path.stat().st_size
        return dict(sizes)

    def stage_digest(self, stage: str) -> str:
        """The digest of a complete stage's fingerprint."""
        return str(self._read_marker(stage)["digest"])

    def invalidate_from(self, stage: str) -> None:
        """Delete the markers of a stage and of those after it, and their checkpoints."""
        stages = PIPELINE[STAGE_NAMES.index(stage) :]
        # From the last to the first: if this is cut short, no stage outlives one before it.
        for each in reversed(stages):
            marker = self._marker(each.name)
            with files.writing(marker):
                marker.unlink(missing_ok=True)
            self.delete_checkpoints(each)

    def delete_checkpoints(self, stage: Stage) -> None:
        """Delete the checkpoints of a stage's trainings."""
        for path in (self.path / "checkpoints").glob("*.safetensors"):
            if _job_of(path).partition("/")[0] in stage.jobs:
                with files.writing(path):
                    path.unlink()

    def _marker(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _read_marker(self, stage: str) -> dict[str, Any]:
        return self.read_json(self._marker(stage))

    def _read(self, load: Callable[[Path], Content], path: Path) -> Content:
        """A file's content; an error about it names the stage to recompute."""
        try:
            return load(path)
        except RunDirError as error:
            stage = _stage_of_path(path.relative_to(self.path))
            raise RunDirError(f"{error}: {_remedy(stage)}") from error


def _stage_of_path(path: Path) -> str:
    """The stage that writes a file of a run; "STAGE" if none is known to."""
    folder = path.parts[0]
    if folder == "stages":
        return path.stem
    if folder == "checkpoints":
        return stage_of_job(_job_of(path)) or "STAGE"
    return next((stage.name for stage in PIPELINE if folder in stage.files), "STAGE")


def _job_of(checkpoint: Path) -> str:
    return checkpoint.stem.replace(".", "/", 1)


def _remedy(stage: str) -> str:
    return f"recompute it with `mld run SPEC --from-stage {stage}`"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
