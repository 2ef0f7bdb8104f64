"""Cells: frozen specs with a key each, and what has become of them so far."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import JsonValue

from mld.bench.grid import grid
from mld.bench.suite import Coordinates, Suite
from mld.config.sections import MethodSpec
from mld.config.spec import Spec, dump_spec, parse_spec
from mld.data.loading import open_dataset
from mld.storage import files, locks
from mld.storage.digests import digest
from mld.storage.run_dir import RunDir
from mld_core import ExitCode, MLDError, Registry, RunDirError

State = Literal["done", "failed", "open"]

_SAMPLING = ("name", "generate", "evaluate")
"""The sections of a spec that training does not read."""


@dataclass(frozen=True)
class Cell:
    """One experiment of a suite.

    Args:
        spec: the text of its frozen spec; "" where it could not be made.
        key: the digest of spec, data and plugins, which names its folder.
        fault: why there is no spec.
    """

    at: Coordinates
    spec: str
    key: str
    fault: str = ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The frozen spec, read; only where there is one."""
        settings: dict[str, Any] = yaml.safe_load(self.spec)
        return settings

    @cached_property
    def network(self) -> str:
        """The digest of what its training follows from: cells alike in this share one network."""
        return digest({name: own for name, own in self.settings.items() if name not in _SAMPLING})


@dataclass(frozen=True)
class Bench:
    """A suite's folder: the only code that knows the names of files in it."""

    path: Path

    def run_dir(self, cell: Cell) -> RunDir:
        """The run of a cell."""
        return RunDir(self.path / "cells" / cell.key)

    def spec(self, cell: Cell) -> Path:
        """The frozen spec of a cell."""
        return self.path / "specs" / f"{cell.key}.yaml"

    def log(self, cell: Cell) -> Path:
        """What the run of a cell has printed."""
        return self.path / "logs" / f"{cell.key}.log"

    @property
    def cells(self) -> Path:
        """Every cell with its coordinates."""
        return self.path / "cells.json"

    @property
    def results(self) -> Path:
        """The table of all cells, a row each."""
        return self.path / "leaderboard.csv"

    def state(self, cell: Cell) -> State:
        """What has become of a cell."""
        if cell.fault:
            return "failed"
        if self.run_dir(cell).is_complete("report"):
            return "done"
        return "failed" if self._failure(cell).is_file() else "open"

    @contextmanager
    def held(self, shard: str) -> Iterator[None]:
        """Keep other suites out, all but other shards of as many.

        RunDirError, naming it, if another is in there.
        """
        own = self._shards / shard.replace("/", "-of-") if shard else self.path
        alike = f"-of-{shard.partition('/')[2]}"
        with locks.locked(own):
            others = [path for path in self._shards.glob("*") if not path.name.endswith(alike)]
            for other in [self.path, *others] if shard else others:
                # Shards that start together look at the same lock: each lets go at once.
                if who := locks.lock_holder(other, patience=1):
                    raise RunDirError(
                        f"{other} is in use by {who}: wait until it ends, or choose another "
                        "folder with --out"
                    )
            yield

    @property
    def _shards(self) -> Path:
        return self.path / "shards"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other shards from writing what all of them write, until the block ends."""
        from filelock import FileLock

        with FileLock(self.path / ".writing.lock"):
            yield

    def freeze(self, cells: Iterable[Cell]) -> None:
        """Write the specs, and which cell is which."""
        told: list[JsonValue] = []
        for cell in cells:
            told.append({"key": cell.key, "fault": cell.fault, **_plain(cell.at)})
            if cell.spec and not self.spec(cell).is_file():
                with files.atomic_write(self.spec(cell)) as partial:
                    partial.write_text(cell.spec, encoding="utf-8")
        RunDir(self.path).write_json(self.cells, told)

    def seeds(self) -> list[int]:
        """The seeds of the cells that the folder knows; none before a suite has run in it."""
        known = self.read_cells() if self.cells.is_file() else []
        return list(dict.fromkeys(cell.at.seed for cell in known))

    def read_cells(self) -> list[Cell]:
        """The cells of a folder that a suite has run in. RunDirError if none has."""
        if not self.cells.is_file():
            raise RunDirError(f"{self.path} holds no suite: it has no {self.cells.name}")
        return [
            Cell(
                Coordinates.model_validate(
                    {name: own for name, own in told.items() if name not in ("key", "fault")}
                ),
                "",
                told["key"],
                told["fault"],
            )
            for told in files.load_json(self.cells)
        ]

    def fail(self, cell: Cell, code: int) -> None:
        """Note that a cell has failed, with the last words of its log."""
        log = self.log(cell)
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        told = {"exit_code": code, "reason": _reason(lines, code)}
        RunDir(self.path).write_json(self._failure(cell), told)

    def failure(self, cell: Cell) -> str:
        """Why a cell has failed, in a line."""
        if cell.fault:
            return cell.fault.partition("\n")[0]
        told = files.load_json(self._failure(cell))
        return f"{told['reason']} (exit code {told['exit_code']})"

    def failures(self, cells: Iterable[Cell]) -> list[tuple[str, str]]:
        """Why cells have failed; those that share a reason are told together."""
        shared: dict[str, list[Cell]] = {}
        for cell in cells:
            if self.state(cell) == "failed":
                shared.setdefault(self.failure(cell), []).append(cell)
        return [
            (told_together(own), f"{reason}{self._where(own[0])}") for reason, own in shared.items()
        ]

    def _where(self, cell: Cell) -> str:
        log = self.log(cell)
        return f": see {log.relative_to(self.path)}" if log.is_file() and not cell.fault else ""

    def forgive(self, cell: Cell) -> None:
        """Let a failed cell run again."""
        self._failure(cell).unlink(missing_ok=True)

    def _failure(self, cell: Cell) -> Path:
        return self.path / "failed" / f"{cell.key}.json"


def told_together(cells: Sequence[Cell]) -> str:
    """Some cells in a few words: the first, and how many more."""
    more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
    return f"{cells[0].at}{more}"


def _reason(lines: Sequence[str], code: int) -> str:
    """What a run said last, or what ended it."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    told = [line for line in lines if line.strip()] or ["it said nothing"]
    if code == ExitCode.BUG:
        # A crash ends with its traceback and one sentence of ours.
        return told[-2:][0]
    places = [place for place, line in enumerate(told) if line.startswith("error: ")]
    complaint = told[places[-1] :] if places else told[-1:]
    # A line that announces others says little without the first of them.
    more = complaint[1:2] if complaint[0].endswith(":") else []
    return " ".join([complaint[0].removeprefix("error: "), *map(str.strip, more)])


def make_cells(suite: Suite, registry: Registry) -> list[Cell]:
    """Every cell of a suite, frozen, in the order of its grid.

    A cell whose spec or data are wrong carries its fault. MLDError if all of them are wrong, or
    there is none.
    """
    cells: list[Cell] = []
    faults: list[MLDError] = []
    for at, document in grid(suite):
        try:
            cells.append(_freeze(at, parse_spec(document, registry, suite.folder), registry))
        except MLDError as error:
            faults.append(error)
            cells.append(Cell(at, "", digest(_plain(at))[:16], str(error)))
    if not cells:
        known = ", ".join(parse_spec(suite.base, registry, suite.folder).modalities)
        told = f"no set of two: the base spec has {known} alone"
        suite.document.add_error(("modalities",), told)
        suite.document.raise_if_errors()
    if all(cell.fault for cell in cells):
        lines = [line for fault in faults for line in str(fault).splitlines()]
        raise type(faults[0])("\n".join(dict.fromkeys(lines)))
    return cells


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """One cell for each run: cells whose specs come to the same share one."""
    runs: dict[str, Cell] = {}
    for cell in cells:
        runs.setdefault(cell.key, cell)
    return list(runs.values())


def want_gpus(cells: Iterable[Cell]) -> bool:
    """Whether any of some cells would run on a GPU."""
    told = (cell.settings["compute"] for cell in cells if cell.spec)
    return any(compute["accelerator"] != "cpu" for compute in told)


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Cells as they are best run: so that few wait for a network that another is training.

    The largest set of each seed trains the autoencoders of the others. Cells that differ only in
    how they sample share one trained network: the first of each such group comes before the rest.
    Each must have a spec.
    """
    networks: Counter[str] = Counter()
    seeds: set[int] = set()
    ranks = {}
    for cell in sorted(cells, key=lambda cell: -len(cell.at.modalities)):
        ranks[cell] = (networks[cell.network], cell.at.seed in seeds)
        networks[cell.network] += 1
        seeds.add(cell.at.seed)
    return sorted(ranks, key=ranks.__getitem__)


def _freeze(at: Coordinates, spec: Spec, registry: Registry) -> Cell:
    text = dump_spec(spec)
    key = {
        "spec": text,
        "data": open_dataset(spec, registry).fingerprint(),
        "plugins": {kind: registry.installed()[kind] for kind in sorted(_kinds(spec))},
        "mld": version("mld-toolkit"),
    }
    return Cell(at, text, digest(key)[:16])


def _kinds(spec: Spec) -> set[str]:
    rival = {spec.diffuse.method} if isinstance(spec.diffuse, MethodSpec) else set()
    return {spec.data.kind, *(own.kind for own in spec.modalities.values())} | rival


def _plain(at: Coordinates) -> dict[str, Any]:
    return at.model_dump(mode="json")
