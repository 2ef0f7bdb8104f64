"""The report of a run: one self-contained HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, permutations, zip_longest
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from mld.data.types import subset_key
from mld.reporting.charts import line_chart
from mld.reporting.html import Media, environment, media_of
from mld.reporting.number_format import format_fixed, format_number
from mld.reporting.truth_metrics import (
    Score,
    TruthMetric,
    main_metrics,
    one_to_one,
    scores_by_metric,
)
from mld.storage.digests import file_digest
from mld.storage.run_dir import RunDir

MAX_SAMPLE_BYTES = 8_700_000
"""Of the samples that a page holds, whose files take a third more in it, as text."""


@dataclass(frozen=True)
class Cell:
    """One modality of one sample."""

    given: bool
    media: list[Media]


@dataclass(frozen=True)
class Sample:
    """One row of a gallery.

    A joint sample is given no row and has neither `row` nor `label`, which is the name of the row's
    class; a row without a class has no label.
    """

    row: str | None
    label: str | None
    cells: dict[str, Cell]

    @property
    def size(self) -> int:
        """Bytes in a page."""
        return sum(len(item.source) for cell in self.cells.values() for item in cell.media)


@dataclass(frozen=True)
class Subset:
    """One conditioning subset: the modalities given and generated, with metrics and samples.

    Args:
        samples: the first of those that the run has files of.
        sample_count: of all that it has files of.
    """

    key: str
    given: list[str]
    generated: list[str]
    coherence: dict[str, Any]
    retrieval: dict[str, Any]
    frechet: dict[str, Any]
    nfe: float
    seconds: float | None
    samples: list[Sample]
    sample_count: int

    @property
    def name(self) -> str:
        """Its name on the page."""
        return " + ".join(self.given) or "joint"


@dataclass(frozen=True)
class TruthScores:
    """The scores of one metric against the truth.

    Args:
        scores: by key of the conditioning subset, as in metrics.json.
        of: what it was measured on, such as "best estimate of 19 draws".
        of_other_rows: the metric of real items of other rows.
        of_reconstructions: the metric of reconstructions, the limit that the autoencoder sets.
    """

    metric: TruthMetric
    scores: Mapping[str, Score]
    of: str
    of_other_rows: float | None
    of_reconstructions: float | None

    @property
    def one_to_one(self) -> list[float]:
        """Its values given one modality each."""
        return [score["value"] for score in one_to_one(self.scores.values())]


@dataclass(frozen=True)
class Curve:
    """The losses of one training job, or of one modality in it."""

    name: str
    chart: Markup
    caption: str


@dataclass(frozen=True)
class Information:
    """Mutual information and related measures, in nats.

    Args:
        pairwise: (value, half-width) of the mutual information of each pair, in both orders.
        limit: the greatest value of a pair.
        table: (measure, value, half-width, standard error, network's error, what recalibration has
            added, value of raw latents or None); half-widths are those of 95 % intervals.
        curves: how each estimate converges as its integral uses more noise levels.
    """

    pairwise: dict[tuple[str, str], tuple[float, float]]
    limit: float
    table: list[tuple[str, float, float, float, float, float, float | None]]
    curves: list[Curve]


def render_report(run_dir: RunDir) -> str:
    """The report of a run, from its files, as HTML.

    The same files give the same bytes. RunDirError if the metrics or a sample's file is missing;
    provenance, event log, information and a subset's samples are optional.
    """
    spec_text = run_dir.read_spec()
    spec = yaml.safe_load(spec_text)
    metrics = run_dir.read_json(run_dir.metrics)
    events = run_dir.read_events()
    modalities = {name: metrics["modalities"][name] for name in spec["modalities"]}
    subsets = _subsets(metrics, list(modalities), run_dir)
    truth_scores = _truth_scores(metrics)
    main = main_metrics(each.metric for each in truth_scores if each.one_to_one)
    template = environment().get_template("report.html.j2")
    return template.render(
        spec=spec,
        spec_text=spec_text,
        metrics=metrics,
        provenance=run_dir.read_json(run_dir.provenance) if run_dir.provenance.exists() else {},
        modalities=modalities,
        labelled=any(scores["classifier_accuracy"] for scores in modalities.values()),
        retrieval=metrics.get("retrieval"),
        subsets=subsets,
        one_to_one=[
            entry
            for subset in subsets
            if len(subset.given) == 1
            for entry in subset.coherence.values()
        ],
        truth_scores=truth_scores,
        main_truth_scores=[each for each in truth_scores if each.metric in main],
        truth_plots={
            name: (given, media_of([run_dir.plot(name)], None)[0])
            for name, given in metrics.get("plots", {}).items()
        },
        given_alone=[subset.key for subset in subsets if len(subset.given) == 1],
        warnings=list(dict.fromkeys([*metrics["warnings"], *_warnings(events)])),
        curves=_curves(events),
        information=_information(run_dir, list(modalities)),
        stored=list(dict.fromkeys(event["job"] for event in events if event["event"] == "store")),
    )


def _subsets(metrics: Mapping[str, Any], names: list[str], run_dir: RunDir) -> list[Subset]:
    """The conditioning subsets of the run, the smallest first."""
    conditional_retrieval = metrics.get("retrieval", {}).get("conditional", [])
    given = {key: [] if key == "joint" else key.split("+") for key in metrics["nfe"]}
    keys = sorted(given, key=lambda key: (len(given[key]), [*map(names.index, given[key])]))
    samples = {key: _samples(run_dir, key) for key in keys}
    shown = _samples_that_fit([*samples.values()])
    return [
        Subset(
            key=key,
            given=given[key],
            generated=[name for name in names if name not in given[key]],
            coherence=_by_target(given[key], metrics["conditional_coherence"]),
            retrieval=_by_target(given[key], conditional_retrieval),
            frechet=_by_target(given[key], metrics["frechet"]),
            nfe=metrics["nfe"][key],
            seconds=metrics["seconds_per_sample"].get(key),
            samples=samples[key][:shown],
            sample_count=len(samples[key]),
        )
        for key in keys
    ]


def _by_target(given: list[str], entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics of one conditioning subset, by generated modality."""
    return {entry["target"]: entry for entry in entries if set(entry["given"]) == set(given)}


def _truth_scores(metrics: Mapping[str, Any]) -> list[TruthScores]:
    """The metrics against the truth, by target; none in a run that was evaluated without them."""
    truth_scores = []
    for metric, scores in scores_by_metric(metrics).items():
        of_modality = metrics["modalities"][metric.target]["metrics"][metric.name]
        truth_scores.append(
            TruthScores(
                metric,
                {subset_key(tuple(score["given"])): score for score in scores},
                scores[0].get("of", "one sample"),
                of_modality["unrelated"],
                of_modality["value"],
            )
        )
    return truth_scores


def _samples(run_dir: RunDir, key: str) -> list[Sample]:
    folder = run_dir.samples(key)
    index = folder / "index.json"
    samples = []
    for row in run_dir.read_json(index)["rows"] if index.exists() else []:
        cells = {name: _cell(run_dir, folder, entry) for name, entry in row["cells"].items()}
        samples.append(Sample(row["id"], _label(row), cells))
    return samples


def _samples_that_fit(samples: Sequence[Sequence[Sample]]) -> int:
    """How many samples of each subset a page holds; at least one."""
    sizes = ([sample.size for sample in of_subset] for of_subset in samples)
    totals = accumulate(map(sum, zip_longest(*sizes, fillvalue=0)))
    return max(1, sum(total <= MAX_SAMPLE_BYTES for total in totals))


def _label(row: Mapping[str, Any]) -> str | None:
    """The class of a row; its number in runs that did not record the name."""
    if row["label"] is None or row["label"] == -1:
        return None
    return f"class {row['class']}" if "class" in row else f"label {row['label']}"


def _cell(run_dir: RunDir, folder: Path, entry: Mapping[str, Any]) -> Cell:
    names = [name for name in [entry["file"], *entry["previews"]] if name]
    files = [run_dir.inside(folder / name) for name in names]
    return Cell(entry["role"] == "given", media_of(files, entry["cell"]))


def _warnings(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The warnings of each stage; those of a finished stage are dropped when it starts again.

    Some warnings of a stage are logged before it starts.
    """
    warnings: dict[str, list[str]] = {}
    finished = set()
    for event in events:
        starts = event["event"] == "stage" and event["state"] == "started"
        if (starts or event["event"] == "warning") and event["stage"] in finished:
            warnings.pop(event["stage"], None)
            finished.discard(event["stage"])
        if event["event"] == "warning":
            warnings.setdefault(event["stage"], []).append(event["message"])
        elif event["event"] == "stage" and event["state"] == "finished":
            finished.add(event["stage"])
    return [message for messages in warnings.values() for message in messages]


def _curves(events: Sequence[Mapping[str, Any]]) -> dict[str, list[Curve]]:
    """The curves of each training stage.

    Steps that a resumed or recomputed job repeats replace the earlier ones.
    """
    jobs: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event["event"] == "train":
            job = jobs.setdefault(event["job"], [])
            while job and job[-1]["step"] >= event["step"]:
                job.pop()
            job.append(event)
    curves: dict[str, list[Curve]] = {}
    for job_name, job in jobs.items():
        stage, _, modality = job_name.partition("/")
        stage_curves = curves.setdefault(stage, [])
        losses = [event["loss"] for event in job]
        validation = [event["validation"] for event in job]
        stage_curves += _curve(modality or "all modalities", job, losses, validation)
        parts = job[-1]["parts"]
        for part in parts if len(parts) > 1 else []:
            losses = [event["parts"].get(part) for event in job]
            stage_curves += _curve(part, job, losses, [None] * len(job))
    return curves


def _curve(
    name: str,
    job: Sequence[Mapping[str, Any]],
    train_losses: Sequence[float | None],
    validation_losses: Sequence[float | None],
) -> Iterator[Curve]:
    """The curve of the losses logged at each event of a job; none without training losses."""
    train, validation = [
        [(event["step"], y) for event, y in zip(job, losses, strict=True) if y is not None]
        for losses in (train_losses, validation_losses)
    ]
    if train:
        step, loss = (validation or train)[-1]
        caption = f"{'validation' if validation else 'training'} {format_number(loss)}"
        label = f"{name}: {caption} after {step:,} steps"
        yield Curve(name, line_chart(train, validation, job[-1]["steps"], label), caption)


def _information(run_dir: RunDir, names: Sequence[str]) -> Information | None:
    """The estimates made with the current network; None without any."""
    record = run_dir.read_json(run_dir.information) if run_dir.information.exists() else {}
    if not record or record["network"] != file_digest(run_dir.ema):
        return None
    estimates = record["estimates"]
    columns = ("value", "half_width", "standard_error", "network_error", "recalibration")
    pairwise = {}
    for a, b in permutations(names, 2):
        if estimate := estimates.get(f"I({a}; {b})"):
            pairwise[a, b] = pairwise[b, a] = (estimate["value"], estimate["half_width"])
    return Information(
        pairwise=pairwise,
        limit=max([value for value, _ in pairwise.values() if value > 0], default=1.0),
        table=[
            (name, *(estimate[column] for column in columns), estimate.get("raw"))
            for name, estimate in estimates.items()
        ],
        curves=[
            _convergence_curve(name, entry["convergence"]) for name, entry in estimates.items()
        ],
    )


def _convergence_curve(name: str, convergence: Sequence[tuple[int, float, float]]) -> Curve:
    nodes, value, error = convergence[-1]
    caption = f"{format_fixed(value, 3)} ± {error:.3f} with {nodes} noise levels"
    points = [(float(count), estimate) for count, estimate, _ in convergence]
    return Curve(name, line_chart([], points, nodes, f"{name}: {caption}"), caption)
