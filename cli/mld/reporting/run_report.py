"""A run folder as one self-contained HTML page: no network, no other files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from mld.reporting.charts import line_chart
from mld.reporting.html import Exhibit, environment, exhibits_of
from mld.reporting.number_format import format_fixed, format_number
from mld.storage.digests import file_digest
from mld.storage.run_dir import RunDir


@dataclass(frozen=True)
class Cell:
    """One modality of one sample."""

    given: bool
    exhibits: list[Exhibit]


@dataclass(frozen=True)
class Sample:
    """One row of a gallery; a joint sample comes from no row of the data and has no label.

    A row whose label was not recorded has none either.
    """

    row: str | None
    label: int | None
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Subset:
    """One conditioning subset: what was given, what was wanted, and all that is known of it."""

    key: str
    given: list[str]
    wanted: list[str]
    coherence: dict[str, Any]
    frechet: dict[str, Any]
    nfe: float
    seconds: float | None
    samples: list[Sample]

    @property
    def name(self) -> str:
        """How the page calls it."""
        return " + ".join(self.given) or "joint"


@dataclass(frozen=True)
class Curve:
    """The losses of one training job, or one modality's part in them."""

    name: str
    chart: Markup
    caption: str


@dataclass(frozen=True)
class Information:
    """What the modalities tell about each other.

    Args:
        heat: by pair, either way round: nats, and their standard error.
        limit: the most nats of a pair.
        table: (measure, nats, standard error, nats of raw latents or None).
        curves: how each estimate settles as its integral is taken over more noise levels.
    """

    heat: dict[tuple[str, str], tuple[float, float]]
    limit: float
    table: list[tuple[str, float, float, float | None]]
    curves: list[Curve]


def write_report(run_dir: RunDir) -> Path:
    """Write the page from what lies in the run folder, and return its path.

    The same folder gives the same bytes. RunDirError if the metrics or a sample's file is
    missing; provenance, event log, information and a subset's samples may be.
    """
    spec_text = run_dir.spec.read_text(encoding="utf-8")
    spec = yaml.safe_load(spec_text)
    metrics = run_dir.read_json(run_dir.metrics)
    events = run_dir.read_events()
    modalities = {name: metrics["modalities"][name] for name in spec["modalities"]}
    subsets = _subsets(metrics, list(modalities), run_dir)
    template = environment().get_template("report.html.j2")
    html = template.render(
        spec=spec,
        spec_text=spec_text,
        metrics=metrics,
        provenance=run_dir.read_json(run_dir.provenance) if run_dir.provenance.exists() else {},
        modalities=modalities,
        labelled=any(told["classifier_accuracy"] for told in modalities.values()),
        subsets=subsets,
        one_to_one=[told for s in subsets if len(s.given) == 1 for told in s.coherence.values()],
        warnings=list(dict.fromkeys([*metrics["warnings"], *_warnings(events)])),
        curves=_curves(events),
        information=_information(run_dir, list(modalities)),
        stored=list(dict.fromkeys(told["job"] for told in events if told["event"] == "store")),
    )
    run_dir.write_text(run_dir.report, html)
    return run_dir.report


def _subsets(metrics: dict[str, Any], names: list[str], run_dir: RunDir) -> list[Subset]:
    """The conditioning subsets of this run, the smallest first."""
    given = {key: [] if key == "joint" else key.split("+") for key in metrics["nfe"]}
    keys = sorted(given, key=lambda key: (len(given[key]), [*map(names.index, given[key])]))
    return [
        Subset(
            key=key,
            given=given[key],
            wanted=[name for name in names if name not in given[key]],
            coherence=_of(given[key], metrics["conditional_coherence"]),
            frechet=_of(given[key], metrics["frechet"]),
            nfe=metrics["nfe"][key],
            seconds=metrics["seconds_per_sample"].get(key),
            samples=_samples(run_dir, key),
        )
        for key in keys
    ]


def _of(given: list[str], entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["target"]: entry for entry in entries if set(entry["given"]) == set(given)}


def _samples(run_dir: RunDir, key: str) -> list[Sample]:
    folder = run_dir.samples(key)
    index = folder / "index.json"
    rows = run_dir.read_json(index)["rows"] if index.exists() else []
    return [
        Sample(
            row=row["id"],
            label=row["label"] if row["label"] != -1 else None,
            cells={name: _cell(folder, told) for name, told in row["cells"].items()},
        )
        for row in rows
    ]


def _cell(folder: Path, told: dict[str, Any]) -> Cell:
    files = [folder / file for file in [told["file"], *told["previews"]] if file]
    return Cell(told["role"] == "given", exhibits_of(files, told["cell"]))


def _warnings(events: list[dict[str, Any]]) -> list[str]:
    """What the stages warned of; a stage that was redone speaks for itself alone."""
    warnings: dict[str, list[str]] = {}
    finished = set()
    for event in events:
        if event["event"] == "warning":
            warnings.setdefault(event["stage"], []).append(event["message"])
        elif event["event"] == "stage" and event["state"] == "finished":
            finished.add(event["stage"])
        elif event["event"] == "stage" and event["state"] == "started":
            if event["stage"] in finished:
                warnings.pop(event["stage"], None)
            finished.discard(event["stage"])
    return [message for told in warnings.values() for message in told]


def _curves(events: list[dict[str, Any]]) -> dict[str, list[Curve]]:
    """The curves of each training stage; what a resumed or redone job repeats replaces the old."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["event"] == "train":
            job = jobs.setdefault(event["job"], [])
            while job and job[-1]["step"] >= event["step"]:
                job.pop()
            job.append(event)
    curves: dict[str, list[Curve]] = {}
    for name, job in jobs.items():
        stage, _, modality = name.partition("/")
        group = curves.setdefault(stage, [])
        group += _curve(modality or "all modalities", job, [event["loss"] for event in job])
        parts = job[-1]["parts"]
        for part in parts if len(parts) > 1 else []:
            told = [{**event, "validation": None} for event in job]
            group += _curve(part, told, [event["parts"].get(part) for event in job])
    return curves


def _curve(name: str, job: list[dict[str, Any]], losses: Sequence[float | None]) -> Iterator[Curve]:
    """The curve of some losses of a job; none if there are no losses."""
    steps = [event["step"] for event in job]
    train = _known(steps, losses)
    validation = _known(steps, [event["validation"] for event in job])
    if train:
        told = "validation" if validation else "training"
        update, loss = (validation or train)[-1]
        caption = f"{told} {format_number(loss)}"
        label = f"{name}: {caption} after {update:,} steps"
        chart = line_chart(train, validation, job[-1]["steps"], label)
        yield Curve(name, chart, caption)


def _information(run_dir: RunDir, names: Sequence[str]) -> Information | None:
    """What was measured with the network as it is now; None if nothing was."""
    told = run_dir.read_json(run_dir.information) if run_dir.information.exists() else {}
    if not told or told["network"] != file_digest(run_dir.ema):
        return None
    found, heat = told["estimates"], {}
    for a, b in permutations(names, 2):
        if own := found.get(f"I({a}; {b})"):
            heat[a, b] = heat[b, a] = (own["value"], own["standard_error"])
    return Information(
        heat,
        max([value for value, _ in heat.values() if value > 0], default=1.0),
        [(key, own["value"], own["standard_error"], own.get("raw")) for key, own in found.items()],
        [_settling(key, own["convergence"]) for key, own in found.items()],
    )


def _settling(name: str, convergence: Sequence[tuple[int, float, float]]) -> Curve:
    nodes, value, error = convergence[-1]
    caption = f"{format_fixed(value, 3)} ± {error:.3f} with {nodes} noise levels"
    points = [(float(count), own) for count, own, _ in convergence]
    return Curve(name, line_chart([], points, nodes, f"{name}: {caption}"), caption)


def _known(steps: Sequence[int], losses: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(steps, losses, strict=True) if y is not None]
