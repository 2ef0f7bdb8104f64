"""Stage `data`: the dataset, fitted modalities, and rows as tensors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

from pydantic import JsonValue

from mld.config.spec import Spec
from mld.data.columns import open_split
from mld.data.item_memory import check_item_memory
from mld.data.loading import Data, fit_modalities, load_fitted_modalities, open_dataset
from mld.data.quality import label_warnings, repeated_row_warnings
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest
from mld.storage.stages import DATA
from mld_core import SPLITS, DataError, Modality, Registry

MIN_TRAINING_ITEMS = 2
"""Items of each modality in the training split; one has no standard deviation."""


@dataclass(frozen=True)
class PreparedData:
    """Fitted modalities, the rows, the fingerprint of both, and warnings about the rows."""

    modalities: dict[str, Modality]
    data: Data
    fingerprint: dict[str, JsonValue]
    warnings: Sequence[str] = ()


def prepare(
    spec: Spec, registry: Registry, context: RunContext, recompute: bool = False
) -> PreparedData:
    """Read and check all data; nothing is written yet, so bad data leave no trace.

    A run that has completed this stage loads its modalities, and reads rows when they are used;
    with `recompute` it begins anew.
    """
    with recorded_warnings() as messages:
        prepared = _prepare(spec, registry, context, recompute)
    return replace(prepared, warnings=messages)


def _prepare(spec: Spec, registry: Registry, context: RunContext, recompute: bool) -> PreparedData:
    dataset = open_dataset(spec, registry)
    kinds = sorted({modality.kind for modality in spec.modalities.values()})
    fingerprint: dict[str, JsonValue] = {
        **context.fingerprint(DATA),
        "rows": dataset.fingerprint(),
        "code": {kind: code_digest(registry.modality(kind).__module__) for kind in kinds},
    }
    run_dir = context.run_dir
    if not recompute and run_dir.is_current(DATA.name, fingerprint):
        counts = run_dir.stage_metadata(DATA.name)["rows"]
        _check_evaluated_rows(spec, counts[spec.generate.split])
        modalities = load_fitted_modalities(spec, registry, run_dir)
        return PreparedData(modalities, Data(dataset, modalities), fingerprint)
    modalities = fit_modalities(spec, dataset, registry)
    rows = sum(len(open_split(dataset, split, modalities).ids) for split in SPLITS)
    check_item_memory(dataset, modalities, rows)
    data = Data(dataset, modalities)
    for split in SPLITS:
        data.split(split)
    _check_evaluated_rows(spec, len(data.split(spec.generate.split).ids))
    _check_training_rows(spec, data)
    warn_about_rows(data)
    return PreparedData(modalities, data, fingerprint)


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """A list that in the end holds the messages of all warnings within, which are issued then."""
    messages: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield messages
    finally:
        messages.extend(dict.fromkeys(str(warning.message) for warning in caught))
        for message in messages:
            warnings.warn(message, stacklevel=3)


def warn_about_rows(data: Data) -> None:
    """Warn of labels and rows that make the scores mislead."""
    splits = {name: data.split(name).labels for name in SPLITS}
    labels = {name: None if rows is None else rows.tolist() for name, rows in splits.items()}
    for message in chain(label_warnings(data.classes, labels), repeated_row_warnings(data)):
        warnings.warn(message, stacklevel=2)


def _check_evaluated_rows(spec: Spec, count: int) -> None:
    """DataError if the split that samples are evaluated on has no rows."""
    if not count:
        raise DataError(
            f"dataset {spec.data.kind!r}: the {spec.generate.split} split has no rows, but samples "
            "are evaluated on it: add some"
        )


def _check_training_rows(spec: Spec, data: Data) -> None:
    """DataError if a modality has too few items for its autoencoder."""
    counts = data.train.present.sum(dim=0).tolist()
    for name, items in zip(spec.modalities, counts, strict=True):
        if items < MIN_TRAINING_ITEMS:
            raise DataError(
                f"the train split has {items} item of modality {name!r}, but at least "
                f"{MIN_TRAINING_ITEMS} are needed"
            )


def record_data_stage(prepared: PreparedData, context: RunContext) -> None:
    """Write what `prepare` has fitted and counted, unless the run has it already."""
    run_dir, data = context.run_dir, prepared.data

    def compute() -> StageOutput:
        files = []
        for name, modality in prepared.modalities.items():
            run_dir.write_json(run_dir.modality_facts(name), dict(modality.facts))
            files.append(run_dir.modality_facts(name))
        for message in prepared.warnings:
            run_dir.log("warning", stage=DATA.name, message=message)
        rows: dict[str, JsonValue] = {split: len(data.split(split).ids) for split in SPLITS}
        empty: dict[str, JsonValue] = {split: data.split(split).dropped for split in SPLITS}
        if any(empty.values()):
            message = f"rows without any recorded item are left out: {empty}"
            run_dir.warn(DATA.name, message)
        if not rows["validation"]:
            message = "the validation split has no rows: overfitting will not show in the curves"
            run_dir.warn(DATA.name, message)
        return StageOutput(files, {"rows": rows, "dropped": empty, "classes": [*data.classes]})

    run_stage(run_dir, DATA, prepared.fingerprint, compute, lambda: None)
