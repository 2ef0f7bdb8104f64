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

from mld.config.sections import MethodSpec
from mld.config.spec import Spec, dump_spec
from mld.data.loading import layout_of
from mld.pipeline.autoencode import train_autoencoders
from mld.pipeline.diffuse import train_diffusion
from mld.pipeline.encode import cache_latents
from mld.pipeline.evaluate import evaluate
from mld.pipeline.generate import generate
from mld.pipeline.generative import Diffusion, Generative, MethodModel
from mld.pipeline.prepare import prepare, record
from mld.pipeline.train_method import method_of, train_method
from mld.reporting.run_report import write_report
from mld.runtime.compute import resolve, using
from mld.runtime.context import RunContext
from mld.storage.run_dir import STAGES, RunDir
from mld.storage.weight_store import Store
from mld_core import MLDError, Registry


def run(spec: Spec, run_dir: RunDir, registry: Registry, from_stage: str | None = None) -> Path:
    """Carry a spec through every stage to its report; a finished stage is read back, not repeated.

    `from_stage` forgets a stage and those after it first. The same call again goes on where an
    earlier one was stopped.
    """
    context = RunContext(run_dir, Store.default(), resolve(spec.compute), spec.seed)
    if from_stage and run_dir.path.is_dir():
        with run_dir.lock():
            run_dir.redo(from_stage)
    with using(context.compute):
        prepared = prepare(spec, registry, context)
        if isinstance(spec.diffuse, MethodSpec):
            method_of(spec.diffuse, registry, prepared.modalities)
        with run_dir.lock(), _failures_kept(run_dir):
            _demand_same_spec(spec, context)
            run_dir.write_text(run_dir.spec, dump_spec(spec))
            record(prepared, context)
            modalities, data = prepared.modalities, prepared.data
            layout = layout_of(modalities)
            autoencoders = train_autoencoders(spec.autoencode, modalities, data, context)
            latents = cache_latents(autoencoders, layout, data, context)
            if isinstance(spec.diffuse, MethodSpec):
                rival = train_method(spec.diffuse, registry, modalities, data, context)
                model: Generative = MethodModel(spec.diffuse.method, rival)
            else:
                score_model = train_diffusion(spec.diffuse, latents, context)
                model = Diffusion(score_model, autoencoders, spec.generate)
            samples = generate(spec.generate, model, latents, modalities, data, context)
            evaluate(
                spec.evaluate, modalities, autoencoders, model.decoders, data, samples, context
            )
            if not run_dir.has("report"):
                told = _provenance(spec, registry, context)
                run_dir.write_json(run_dir.provenance, told)
            return _report(run_dir)


def _demand_same_spec(spec: Spec, context: RunContext) -> None:
    """RunDirError if a finished stage was made by another spec, before anything is written."""
    for stage in STAGES[1:-1]:
        if not context.run_dir.has(stage):
            return
        section = getattr(spec, stage, None)
        context.run_dir.demand_same(stage, context.fingerprint(stage, section))


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
    run_dir.demand("evaluate")
    with run_dir.lock():
        run_dir.redo("report")
        return _report(run_dir)


def _report(run_dir: RunDir) -> Path:
    fingerprint: dict[str, JsonValue] = {"inputs": {"evaluate": run_dir.digest("evaluate")}}
    if run_dir.read_back("report", fingerprint):
        return run_dir.report
    with run_dir.stage("report") as seconds:
        write_report(run_dir)
        run_dir.finish("report", fingerprint, [run_dir.provenance, run_dir.report], seconds())
    return run_dir.report


def _provenance(spec: Spec, registry: Registry, context: RunContext) -> dict[str, Any]:
    run_dir = context.run_dir
    kinds = {spec.data.kind, *(told.kind for told in spec.modalities.values())}
    kinds |= {spec.diffuse.method} if isinstance(spec.diffuse, MethodSpec) else set()
    parameters = {
        f"{stage}/{name}": count
        for stage in ("autoencode", "evaluate")
        for name, count in run_dir.facts_of(stage)["parameters"].items()
    }
    return {
        "mld": version("mld-toolkit"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "plugins": {kind: registry.installed()[kind] for kind in sorted(kinds)},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "precision": context.compute.precision,
        "threads": context.compute.threads,
        "device": context.compute.accelerator,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["mld", *sys.argv[1:]]),
        "seconds": {stage: run_dir.seconds_of(stage) for stage in STAGES if run_dir.has(stage)},
        "parameters": {**parameters, "diffuse": run_dir.facts_of("diffuse")["parameters"]},
        "rows": run_dir.facts_of("data")["rows"],
        "audit": run_dir.facts_of("autoencode")["audit"],
    }
