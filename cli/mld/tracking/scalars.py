"""The numbers of a run: those of its event log, and its scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from mld.storage.stages import STAGE_NAMES, stage_of_job
from mld_core import Scalars

RUN = "run"
"""The group of numbers that a run has once."""
INVALIDATED = "invalidated"
"""The state of a stage that is recomputed on request, with those after it."""


def scalars_of(event: Mapping[str, Any]) -> Scalars | None:
    """The numbers of an event: losses and rate of a training, seconds of a stage; None without."""
    if event["event"] == "train":
        job = event["job"]
        values = {f"{job}/loss": event["loss"], f"{job}/rows per second": event["rate"]}
        values[f"{job}/validation loss"] = event["validation"]
        if len(event["parts"]) > 1:
            values |= {f"{job}/loss of {name}": loss for name, loss in event["parts"].items()}
        step, group = int(event["step"]), job
    elif event["event"] == "stage" and event["state"] == "finished":
        values, step, group = {f"{RUN}/seconds of {event['stage']}": event["seconds"]}, 0, RUN
    else:
        return None
    present = {name: float(value) for name, value in values.items() if value is not None}
    return Scalars(group, step, present, datetime.fromisoformat(event["time"]).timestamp())


def valid_events(events: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """The events of stages that were not recomputed since, and how often stages were."""
    valid: list[Mapping[str, Any]] = []
    times = 0
    for event in events:
        if event["event"] == "stage" and event["state"] == INVALIDATED:
            times += 1
            first = STAGE_NAMES.index(event["stage"])
            valid = [each for each in valid if _is_before(each, first)]
        else:
            valid.append(event)
    return valid, times


def score_scalars(metrics: Mapping[str, Any], time: float) -> Scalars:
    """The scores of metrics.json that are one number each, by the names that they have there."""
    values: dict[str, float] = {}
    for name in ("joint_coherence", "joint_ceiling"):
        _add(values, name, metrics.get(name))
    for row in metrics.get("conditional_coherence", []):
        _add(values, f"coherence/{_direction(row)}", row)
    retrieval = metrics.get("retrieval", {})
    _add(values, "joint_retrieval", retrieval.get("joint", {}).get("at_1"))
    for row in retrieval.get("conditional", []):
        _add(values, f"retrieval/{_direction(row)}", row["at_1"])
    for row in metrics.get("conditional_metrics", []):
        _add(values, f"{row['metric']}/{_direction(row)}", row)
    for row in metrics.get("frechet", []):
        _add(values, f"frechet/{_direction(row)}", row)
    for name, modality in metrics["modalities"].items():
        for metric, row in modality["metrics"].items():
            _add(values, f"{metric}/{name}", row)
    return Scalars(RUN, 0, values, time)


def _add(values: dict[str, float], name: str, row: Mapping[str, Any] | None) -> None:
    """Add the value of a row of metrics.json, if it has one."""
    if row and row["value"] is not None:
        # A plugin's metric may have any name, and trackers take few characters.
        values[re.sub(r"[^A-Za-z0-9_. /-]", "_", f"{RUN}/{name}")] = float(row["value"])


def _direction(row: Mapping[str, Any]) -> str:
    """As in "word and tone to digit"."""
    return f"{' and '.join(row['given']) or 'nothing'} to {row['target']}"


def _is_before(event: Mapping[str, Any], stage: int) -> bool:
    """Whether an event is of a stage before one."""
    name = event.get("stage") or stage_of_job(str(event.get("job", "")))
    return name in STAGE_NAMES and STAGE_NAMES.index(name) < stage


def new_scalars(scalars: Iterable[Scalars], last_steps: dict[str, int]) -> Iterator[Scalars]:
    """The numbers of later steps than those that a tracker has, by name, which is updated.

    A resumed training repeats the steps since its last checkpoint, with the same losses.
    """
    for each in scalars:
        values = {
            name: value
            for name, value in each.values.items()
            if each.step > last_steps.get(name, -1)
        }
        if values:
            last_steps.update(dict.fromkeys(values, each.step))
            yield Scalars(each.group, each.step, values, each.time)
