"""Provenance of a run: code, libraries and machine, and what its stages recorded."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from mld.config.spec import Spec
from mld.config.version import __version__
from mld.runtime.context import RunContext
from mld.runtime.processor import available_cores, processor_name
from mld.storage.run_dir import RunDir
from mld.storage.stages import PIPELINE
from mld_core import Registry


def provenance(
    spec: Spec, registry: Registry, context: RunContext, command: Sequence[str]
) -> dict[str, Any]:
    """What provenance.json holds; `command` is the one that started the run."""
    compute = context.compute
    return {
        "mld": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "plugins": spec.plugin_versions(registry),
        "platform": platform.platform(),
        "processor": processor_name(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "precision": compute.precision,
        "threads": compute.threads,
        "device": compute.accelerator,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        **_start(spec, context),
        **_recorded_by_stages(context.run_dir),
    }


def _start(spec: Spec, context: RunContext) -> dict[str, Any]:
    """The run from which this one started, if from any."""
    if spec.start_from is None:
        return {}
    return {"start_from": {"run": str(spec.start_from), "digest": context.sections["start_from"]}}


def _recorded_by_stages(run_dir: RunDir) -> dict[str, Any]:
    """Seconds of each complete stage, and the metadata of all, merged by name."""
    seconds: dict[str, float] = {}
    merged: dict[str, Any] = {"seconds": seconds}
    for stage in PIPELINE:
        if not run_dir.is_complete(stage.name):
            continue
        seconds[stage.name] = run_dir.stage_seconds(stage.name)
        for name, value in run_dir.stage_metadata(stage.name).items():
            merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return merged
