"""The corridor: a spec through every stage; and a finished run put to use."""

from __future__ import annotations

import platform
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from mld.autoencode import load_autoencoders, train_autoencoders
from mld.coding import decode, encode
from mld.compute import resolve, using
from mld.data import load_modalities
from mld.diffuse import load_model, train_diffusion
from mld.generate import generate, guidance_of, write_item
from mld.judge import judge
from mld.latents import cache_latents
from mld.prepare import prepare, record
from mld.report import write_report
from mld.requirements import other_versions
from mld.rundir import STAGES, RunDir
from mld.sections import GuidanceSpec
from mld.seeds import derive
from mld.spec import Spec, dump_spec, load_spec
from mld.store import Store
from mld.workplace import Workplace
from mld_core import ArtefactError, DataError, MLDError, Registry, SpecError
from mld_core.conditional import sample_latents
from mld_core.layout import LatentLayout


def run(spec: Spec, run_dir: RunDir, registry: Registry, redo: str | None = None) -> Path:
    """Carry a spec through every stage to its report; a finished stage is read back, not repeated.

    `redo` forgets a stage and those after it first. The same call again goes on where an earlier
    one was stopped.
    """
    workplace = Workplace(run_dir, Store.default(), resolve(spec.compute), spec.seed)
    if redo and run_dir.path.is_dir():
        with run_dir.lock():
            run_dir.redo(redo)
    with using(workplace.compute):
        prepared = prepare(spec, registry, workplace)
        with run_dir.lock(), _failures_kept(run_dir):
            _demand_same_spec(spec, workplace)
            run_dir.write_text(run_dir.spec, dump_spec(spec))
            record(prepared, workplace)
            modalities, data = prepared.modalities, prepared.data
            layout = _layout(spec)
            autoencoders = train_autoencoders(spec.autoencode, modalities, data, workplace)
            latents = cache_latents(autoencoders, layout, data, workplace)
            model = train_diffusion(spec.diffuse, latents, workplace)
            samples = generate(
                spec.generate, model, latents, autoencoders, modalities, data, workplace
            )
            judge(spec.judge, modalities, autoencoders, data, samples, workplace)
            if not run_dir.has("report"):
                told = _provenance(spec, registry, workplace)
                run_dir.write_json(run_dir.provenance, told)
            return _report(run_dir)


def _layout(spec: Spec) -> LatentLayout:
    return LatentLayout({name: told.config.latent_dim for name, told in spec.modalities.items()})


def _demand_same_spec(spec: Spec, workplace: Workplace) -> None:
    """ArtefactError if a finished stage was made by another spec, before anything is written."""
    for stage in STAGES[1:-1]:
        if not workplace.run_dir.has(stage):
            return
        section = getattr(spec, stage, None)
        workplace.run_dir.demand_same(stage, workplace.made_from(stage, section))


@contextmanager
def _failures_kept(run_dir: RunDir) -> Iterator[None]:
    """Leave the traceback of a crash in error.txt, and none after a run that succeeds."""
    try:
        yield
    except MLDError:
        raise
    except Exception:
        run_dir.write_text(run_dir.error, traceback.format_exc())
        raise
    run_dir.error.unlink(missing_ok=True)


def report(run_dir: RunDir) -> Path:
    """Write the report of a judged run again, from what lies in its directory."""
    run_dir.demand("judge")
    with run_dir.lock():
        run_dir.redo("report")
        return _report(run_dir)


def _report(run_dir: RunDir) -> Path:
    made_from: dict[str, JsonValue] = {"inputs": {"judge": run_dir.digest("judge")}}
    if run_dir.read_back("report", made_from):
        return run_dir.report
    with run_dir.stage("report") as seconds:
        write_report(run_dir)
        run_dir.finish("report", made_from, [run_dir.provenance, run_dir.report], seconds())
    return run_dir.report


def _provenance(spec: Spec, registry: Registry, workplace: Workplace) -> dict[str, Any]:
    run_dir = workplace.run_dir
    kinds = sorted({spec.data.kind, *(told.kind for told in spec.modalities.values())})
    parameters = {
        f"{stage}/{name}": count
        for stage in ("autoencode", "judge")
        for name, count in run_dir.facts_of(stage)["parameters"].items()
    }
    return {
        "mld": version("mld-toolkit"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "plugins": {kind: registry.installed()[kind] for kind in kinds},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "precision": workplace.compute.precision,
        "threads": workplace.compute.threads,
        "device": workplace.compute.accelerator,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["mld", *sys.argv[1:]]),
        "seconds": {stage: run_dir.seconds_of(stage) for stage in STAGES if run_dir.has(stage)},
        "parameters": {**parameters, "diffuse": run_dir.facts_of("diffuse")["parameters"]},
        "rows": run_dir.facts_of("data")["rows"],
        "audit": run_dir.facts_of("autoencode")["audit"],
    }


@dataclass(frozen=True)
class Sampled:
    """What `Run.sample` made.

    Args:
        items: by modality given or wanted, "sample *item" in data space; given ones as they were.
        latents: the same as latents.
        given: the names that were given.
        nfe: network evaluations per sample.
        seconds: in all.
    """

    run: Run
    items: Mapping[str, Tensor]
    latents: Mapping[str, Tensor]
    given: tuple[str, ...]
    nfe: float
    seconds: float

    def cells(self, name: str) -> list[str]:
        """The wanted texts of an inline modality, one per sample."""
        return [self.run.modalities[name].cell(x) for x in self.items[name]]

    def write(self, folder: Path | str) -> dict[str, list[Path]]:
        """Write what was generated, folder/<modality>/0000.*; the files by modality."""
        return {
            name: [
                write_item(self.run.modalities[name], x, Path(folder) / name / f"{row:04d}")[1][0]
                for row, x in enumerate(items)
            ]
            for name, items in self.items.items()
            if name not in self.given
        }


class Run:
    """A finished run: its modalities, autoencoders and score network, ready to be asked.

    Use `load` to get one.
    """

    def __init__(self, run_dir: RunDir, registry: Registry) -> None:
        if not run_dir.spec.is_file():
            raise ArtefactError(f"{run_dir.path} is no run directory: it has no spec.yaml")
        self.run_dir = run_dir
        self.spec = load_spec(run_dir.spec, registry)
        for stage in ("data", "autoencode", "diffuse"):
            run_dir.demand(stage)
        if run_dir.provenance.is_file():
            made_with = run_dir.read_json(run_dir.provenance)["plugins"]
            for message in other_versions(made_with, registry):
                warnings.warn(f"{run_dir.path}: {message}", stacklevel=3)
        compute = resolve(self.spec.compute)
        workplace = Workplace(run_dir, Store.default(), compute, self.spec.seed)
        facts = {name: run_dir.read_json(run_dir.facts(name)) for name in self.spec.modalities}
        self.modalities = load_modalities(self.spec, registry, facts)
        self.autoencoders = load_autoencoders(self.modalities, workplace)
        self.model = load_model(self.spec.diffuse, _layout(self.spec), workplace)

    def encode(self, given: Mapping[str, Path | str | Tensor]) -> dict[str, Tensor]:
        """The raw latents of data, "1 latent" each: a path, a text where inline, or an item."""
        return {name: self._latent(name, self._item(name, told)) for name, told in given.items()}

    def sample(
        self,
        given: Mapping[str, Path | str | Tensor] | None = None,
        want: Sequence[str] | None = None,
        n: int = 1,
        *,
        seed: int = 0,
        sampler: str | None = None,
        steps: int | None = None,
        guidance: float | GuidanceSpec | None = None,
    ) -> Sampled:
        """`n` samples of the modalities wanted, all others by default, given data for some.

        What is not said is as in the run's spec. The same seed gives the same samples.
        SpecError if the request does not fit the run, DataError if something given does not.
        """
        given = dict(given or {})
        want = [name for name in self.modalities if name not in given] if want is None else want
        told = self.spec.generate
        items = {name: self._item(name, value) for name, value in given.items()}
        began = time.perf_counter()
        try:
            samples = sample_latents(
                self.model,
                {name: self._latent(name, x).expand(n, -1) for name, x in items.items()},
                want,
                [derive(seed, "sample", row) for row in range(n)],
                sampler or told.sampler,
                steps or told.steps,
                guidance_of(told.guidance if guidance is None else guidance),
            )
        except ValueError as error:
            raise SpecError(f"{self.run_dir.path}: {error}") from error
        decoded = {name: decode(self.autoencoders[name], samples.latents[name]) for name in want}
        repeated = {name: x.expand(n, *x.shape) for name, x in items.items()}
        seconds = time.perf_counter() - began
        return Sampled(
            self, {**repeated, **decoded}, samples.latents, tuple(given), samples.nfe, seconds
        )

    def _latent(self, name: str, x: Tensor) -> Tensor:
        return encode(self.autoencoders[name], x[None], self.modalities[name].config.latent_dim)

    def _item(self, name: str, told: Path | str | Tensor) -> Tensor:
        if name not in self.modalities:
            known = ", ".join(self.modalities)
            raise SpecError(f"{self.run_dir.path} has no modality {name!r} (it has {known})")
        if isinstance(told, Tensor):
            return told
        modality = self.modalities[name]
        source = told if modality.inline else Path(told)
        try:
            return modality.preprocess(modality.read(source))
        except (ValueError, OSError) as error:
            raise DataError(f"modality {name!r}, {str(told)!r}: {error}") from error


def load(folder: Path | str, registry: Registry | None = None) -> Run:
    """The run in a folder, verified, its networks in memory.

    Warns where plugins of other versions made it.
    """
    return Run(RunDir(Path(folder)), registry or Registry())


__all__ = ["Run", "Sampled", "load", "report", "run"]
