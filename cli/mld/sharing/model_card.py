"""The model card of a run: a README for the hub, with metadata that its search understands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from mld.config.spec import Spec
from mld.config.version import __version__
from mld.data.types import subset_key
from mld.reporting.html import environment, media_type_of
from mld.reporting.truth_metrics import main_metrics, one_to_one, scores_by_metric
from mld.storage.hub import HubAddress, require_hub
from mld.storage.run_dir import RunDir
from mld_core import Registry

LIBRARY = "mld-toolkit"
TASK = "any-to-any"
"""The task of the hub that a run fulfils."""
MAX_CELL_LENGTH = 60


@dataclass(frozen=True)
class CardFacts:
    """What only the author of a run knows; the card says where something is not stated.

    Args:
        license: an identifier of the hub, such as "apache-2.0".
        data: what the run was trained on, in a sentence, with its licence.
        datasets: identifiers of data sets on the hub.
    """

    license: str | None = None
    data: str | None = None
    datasets: Sequence[str] = ()


@dataclass(frozen=True)
class Matrix:
    """Scores of samples that were given one modality, by the given one (rows) and by columns.

    Args:
        values: by (given, column).
        names: what the hub calls each value: (type of metric, name).
    """

    title: str
    about: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Mapping[tuple[str, str], float]
    names: Mapping[tuple[str, str], tuple[str, str]]


def model_card(
    run_dir: RunDir,
    cells: Sequence[Mapping[str, Any]],
    spec: Spec,
    registry: Registry,
    address: HubAddress,
    facts: CardFacts,
) -> str:
    """The README of a run's repository.

    Args:
        run_dir: as it is shared.
        cells: of the samples that the card shows, as of `shown_cells`.
    """
    scores = run_dir.read_json(run_dir.metrics)
    provenance = run_dir.read_json(run_dir.provenance)
    plugins = provenance["plugins"]
    names = list(spec.modalities)
    return (
        environment("mld.sharing")
        .get_template("model_card.md.j2")
        .render(
            metadata=_metadata(spec, scores, address, facts),
            spec=spec,
            spec_text=run_dir.read_spec(),
            address=address,
            facts=facts,
            settings={name: _settings(section.config) for name, section in spec.modalities.items()},
            joint=_joint_scores(scores),
            matrices=list(_matrices(scores, names)),
            names=names,
            samples=[_shown_row(row, address) for row in cells],
            plugins=plugins,
            requirements=_requirements(plugins, registry),
            given=_example(spec, registry, cells),
            warnings=scores["warnings"],
            rows=provenance["rows"],
            version=__version__,
        )
    )


def _metadata(spec: Spec, scores: Mapping[str, Any], address: HubAddress, facts: CardFacts) -> str:
    """The YAML at the top of the card."""
    hub = require_hub()
    kinds = sorted({section.kind for section in spec.modalities.values()})
    results = [
        hub.EvalResult(
            task_type=TASK,
            dataset_type=spec.data.kind,
            dataset_name=facts.data or f"rows of the dataset kind {spec.data.kind}",
            dataset_split=scores["split"],
            metric_type=metric,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for metric, name, value in _results(scores, list(spec.modalities))
    ]
    card = hub.ModelCardData(
        license=facts.license,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["mld", "multimodal", "diffusion", *kinds],
        datasets=[*facts.datasets] or None,
        model_name=spec.name if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml())


def _results(scores: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Type, name and value of each metric that the hub shows."""
    for name, value in _joint_scores(scores).items():
        yield name.partition(" ")[2], name, value
    for matrix in _matrices(scores, names):
        for key, value in matrix.values.items():
            yield *matrix.names[key], value


def _joint_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores of samples of all modalities, by name."""
    joint = {}
    if scores["joint_coherence"]:
        joint["joint coherence"] = scores["joint_coherence"]["value"]
    if of_pairs := scores.get("retrieval", {}).get("joint"):
        joint["joint retrieval"] = of_pairs["at_1"]["value"]
    return joint


def _matrices(scores: Mapping[str, Any], names: Sequence[str]) -> Iterator[Matrix]:
    """Coherence, retrieval and the main metrics of each modality, where they were measured."""
    coherence = {_pair(row): row["value"] for row in one_to_one(scores["conditional_coherence"])}
    retrieval = {
        _pair(row): row["at_1"]["value"]
        for row in scores.get("retrieval", {}).get("conditional", [])
        if len(row["given"]) == 1
    }
    for title, values, about in (
        ("Coherence", coherence, "the share that a classifier assigns to the given row's class"),
        ("Retrieval", retrieval, "how often a sample finds what it was given among candidates"),
    ):
        if values:
            word = title.lower()
            labels = {key: (word, f"{word} of {key[1]} given {key[0]}") for key in values}
            yield Matrix(title, about, names, names, values, labels)
    by_metric, truth, labels = scores_by_metric(scores), {}, {}
    for metric in main_metrics(by_metric):
        name = metric.name.replace("_", " ")
        for row in one_to_one(by_metric[metric]):
            key = (row["given"][0], metric.full_title)
            truth[key] = row["value"]
            labels[key] = (metric.name, f"{name} of {metric.target} given {key[0]}")
    if truth:
        about = "samples compared with what the given row really has"
        columns = list(dict.fromkeys(column for _, column in truth))
        yield Matrix("Against the truth", about, names, columns, truth, labels)


def _pair(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["given"][0], row["target"]


def _settings(config: Any) -> str:
    """The settings of a modality in a line."""
    settings = config.model_dump(mode="json", exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _shown_row(cells: Mapping[str, Any], address: HubAddress) -> dict[str, list[tuple[str, str]]]:
    """How a sample is shown: (type, text or URL) of the media of each modality."""
    base = f"samples/{subset_key(())}/"
    row = {}
    for name, cell in cells.items():
        media = [(media_type_of(Path(file)), file) for file in (cell["file"], *cell["previews"])]
        shown: list[tuple[str, str]] = [
            # Pictures are found beside the card, sounds only by their whole address.
            (kind, f"{base}{file}" if kind == "picture" else _url(address, f"{base}{file}"))
            for kind, file in media
            if kind in ("picture", "sound")
        ]
        if cell["cell"] is not None:
            shown.append(("text", _cell_text(cell["cell"])))
        row[name] = shown or [("text", cell["file"])]
    return row


def _url(address: HubAddress, file: str) -> str:
    hub = require_hub()
    return str(hub.hf_hub_url(address.repository, file, revision=address.revision))


def _cell_text(text: str) -> str:
    """The text of a cell on one line of a table."""
    line = re.sub(r"[\x00-\x1f|`]+", " ", text).strip()
    return line if len(line) <= MAX_CELL_LENGTH else f"{line[: MAX_CELL_LENGTH - 1]}…"


def _example(spec: Spec, registry: Registry, cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A modality and a datum of it, for the lines that show how to use the run."""
    for name, section in spec.modalities.items():
        if registry.modality(section.kind).inline and cells:
            return name, _cell_text(cells[0][name]["cell"])
    name = next(iter(spec.modalities))
    return name, f"{name}{Path(cells[0][name]['file']).suffix if cells else ''}"


def _requirements(plugins: Mapping[str, str], registry: Registry) -> list[str]:
    """What has to be installed to use a run, as pip names it."""
    extras: dict[str, set[str]] = {LIBRARY: {"hub"}}
    for kind, release in plugins.items():
        distribution = release.partition(" ")[0]
        module = registry.entry(kind).module.partition(".")[0]
        try:
            provided = metadata(distribution).get_all("Provides-Extra") or []
        except (PackageNotFoundError, ValueError):
            continue
        # An extra brings the libraries of the kind or of the package that is named like it.
        names = {kind, module.rpartition("_")[2]} & {*provided}
        extras.setdefault(distribution, set()).update(names)
    return [
        f"{name}[{','.join(sorted(of_it))}]" if of_it else name for name, of_it in extras.items()
    ]
