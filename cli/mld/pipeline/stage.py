"""How every stage runs: loaded if it is complete and current, else computed and marked complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from mld.storage.run_dir import RunDir
from mld.storage.stages import Stage

Result = TypeVar("Result")


@dataclass(frozen=True)
class StageOutput:
    """What a stage has written.

    Args:
        files: their digests go into the stage's marker.
        metadata: what the stage records about itself; provenance collects it.
    """

    files: Sequence[Path]
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


def run_stage(
    run_dir: RunDir,
    stage: Stage,
    fingerprint: Mapping[str, JsonValue],
    compute: Callable[[], StageOutput],
    load: Callable[[], Result],
    earlier_seconds: float = 0.0,
) -> Result:
    """Load a complete stage whose fingerprint is current; else compute, mark and load it.

    What was just computed is loaded from its files too, so that a new run and a resumed one go on
    from the same values. RunDirError if the stage is out of date or its files have changed.

    Args:
        earlier_seconds: of the stage's work, done before this call.
    """
    if not run_dir.reuse(stage.name, fingerprint):
        with run_dir.stage(stage.name, earlier_seconds) as seconds:
            output = compute()
            run_dir.mark_complete(stage.name, fingerprint, output.files, seconds(), output.metadata)
        run_dir.delete_checkpoints(stage)
    return load()
