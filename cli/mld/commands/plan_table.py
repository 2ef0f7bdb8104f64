"""The plan of a run as text, with what its stages cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mld.pipeline.estimate import Estimate
    from mld.pipeline.plan import Plan
    from mld.pipeline.stage_costs import StageCost


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """The plan, its stages and their total."""
    stages = [asdict(stage) for stage in estimate.stages]
    total = asdict(total_cost(estimate.stages)) if stages else None
    return {**asdict(estimate.plan), "stages": stages, "total": total}


def plan_lines(plan: Plan) -> Iterator[str]:
    """What is computed, and with what."""
    yield ", ".join(f"{key} {value}" for key, value in asdict(plan.compute).items())
    yield "rows: " + ", ".join(f"{split} {count:,}" for split, count in plan.rows.items())
    for job in plan.jobs:
        steps = f"{job.steps:,} steps of {job.batch_size:,} rows"
        about = "" if job.is_exact else "about "
        yield f"{job.name}: {about}{job.parameters:,} parameters, {steps}"
    for subset, nfe in plan.nfe.items():
        draws = f"{plan.draws} draws of " if plan.draws > 1 and subset != "joint" else ""
        yield f"{subset}: {draws}{plan.num_samples:,} samples of {nfe:g} evaluations"
    in_memory, on_disk = plan.item_bytes.memory / 1e6, plan.item_bytes.disk / 1e6
    yield f"items: {in_memory:,.0f} MB in memory, {on_disk:,.0f} MB on disk beside stored weights"


def cost_lines(stages: Sequence[StageCost]) -> Iterator[str]:
    """A table of the stages, with their total: the sum of times and files, the peak of memory."""
    has_gpu = any(stage.device_memory for stage in stages)
    rows = [_cells(stage, has_gpu) for stage in [*stages, total_cost(stages)]]
    heads = ["stage", "time", "memory", *["GPU memory"] * has_gpu, "disk", "store", "temporary"]
    widths = [max(map(len, column)) for column in zip(*[heads, *rows], strict=True)]
    notes = ["", *(stage.note for stage in stages), ""]
    for row, note in zip([heads, *rows], notes, strict=True):
        first, *others = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([*cells, *[note] * bool(note)])


def total_cost(stages: Sequence[StageCost]) -> StageCost:
    """The times and files of all stages, and the most memory and temporary files of one."""
    from mld.pipeline.stage_costs import StageCost

    return StageCost(
        "total",
        sum(stage.seconds for stage in stages),
        max(stage.memory for stage in stages),
        max(stage.device_memory for stage in stages),
        sum(stage.disk for stage in stages),
        sum(stage.stored for stage in stages),
        max(stage.checkpoints for stage in stages),
        max(stage.temporary for stage in stages),
    )


def _cells(cost: StageCost, has_gpu: bool) -> list[str]:
    from mld.reporting.number_format import format_duration

    sizes = [
        cost.memory,
        *[cost.device_memory] * has_gpu,
        cost.disk,
        cost.stored,
        cost.checkpoints + cost.temporary,
    ]
    return [cost.stage, format_duration(round(cost.seconds, 1)), *map(format_megabytes, sizes)]


def format_megabytes(size: int) -> str:
    """A number of bytes in MB."""
    return f"{size / 1e6:,.0f} MB"
