"""What decides a training, told without its rows, so that a dry run finds stored weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from mld.runtime.context import RunContext
from mld.storage.stages import PIPELINE, stage_of_job
from mld_core.plugins.discovery import installed_version

STAGES = {stage.name: stage for stage in PIPELINE}


def training_origin(
    job: str, context: RunContext, digest_of: Callable[[str], str]
) -> Mapping[str, JsonValue]:
    """The settings of a training job, and the stage of whose result it draws rows.

    Weights of one origin have one key in the store, unless mld's code has changed.

    Args:
        digest_of: of a stage's fingerprint.
    """
    stage = STAGES[stage_of_job(job)]
    compute = context.sections["compute"]
    assert isinstance(compute, dict)
    return {
        "job": job,
        **{name: context.sections[name] for name in stage.sections if name in context.sections},
        "rows": digest_of(stage.trains_on),
        # Where items are kept does not matter.
        "compute": {name: value for name, value in compute.items() if name != "items"},
        "mld": installed_version("mld-toolkit"),
    }
