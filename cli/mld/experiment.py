"""The corridor: a spec through every stage."""

from __future__ import annotations

import platform
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from mld.autoencode import train_autoencoders
from mld.compute import resolve, using
from mld.contend import method_of, train_method
from mld.data import layout_of
from mld.diffuse import train_diffusion
from mld.generate import generate
from mld.generative import Diffusion, Generative, Rival
from mld.judge import judge
from mld.latents import cache_latents
from mld.prepare import prepare, record
from mld.report import write_report
from mld.rundir import STAGES, RunDir
from mld.sections import MethodSpec
from mld.spec import Spec, dump_spec
from mld.store import Store
from mld.workplace import Workplace
from mld_core import MLDError, Registry


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
        if isinstance(spec.diffuse, MethodSpec):
            method_of(spec.diffuse, registry, prepared.modalities)
        with run_dir.lock(), _failures_kept(run_dir):
            _demand_same_spec(spec, workplace)
            run_dir.write_text(run_dir.spec, dump_spec(spec))
            record(prepared, workplace)
            modalities, data = prepared.modalities, prepared.data
            layout = layout_of(modalities)
            autoencoders = train_autoencoders(spec.autoencode, modalities, data, workplace)
            latents = cache_latents(autoencoders, layout, data, workplace)
            if isinstance(spec.diffuse, MethodSpec):
                rival = train_method(spec.diffuse, registry, modalities, data, workplace)
                model: Generative = Rival(spec.diffuse.method, rival)
            else:
                score_model = train_diffusion(spec.diffuse, latents, workplace)
                model = Diffusion(score_model, autoencoders, spec.generate)
            samples = generate(spec.generate, model, latents, modalities, data, workplace)
            judge(spec.judge, modalities, autoencoders, model.decoders, data, samples, workplace)
            if not run_dir.has("report"):
                told = _provenance(spec, registry, workplace)
                run_dir.write_json(run_dir.provenance, told)
            return _report(run_dir)


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
    kinds = {spec.data.kind, *(told.kind for told in spec.modalities.values())}
    kinds |= {spec.diffuse.method} if isinstance(spec.diffuse, MethodSpec) else set()
    parameters = {
        f"{stage}/{name}": count
        for stage in ("autoencode", "judge")
        for name, count in run_dir.facts_of(stage)["parameters"].items()
    }
    return {
        "mld": version("mld-toolkit"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "plugins": {kind: registry.installed()[kind] for kind in sorted(kinds)},
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


__all__ = ["report", "run"]
