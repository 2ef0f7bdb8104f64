"""Stage `data`: the dataset, fitted modalities, and rows as tensors."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from mld.config.sections import EvaluateSpec
from mld.config.spec import Spec
from mld.data.coverage import Coverage, coverage_of, declared_coverage
from mld.data.faults import Fault, table_of_faults
from mld.data.item_memory import check_item_memory
from mld.data.item_places import ItemPlaces, item_places
from mld.data.loading import (
    Data,
    all_faults,
    fit_columns,
    load_fitted_modalities,
    modalities_of,
    open_dataset,
)
from mld.data.modality_columns import Fit
from mld.data.quality import label_warnings, repeated_row_warnings
from mld.data.read_ahead import ModalityToRead, ReadAhead, read_ahead
from mld.pipeline.demands import Shortfall, check_demands
from mld.pipeline.invalid_items import listed_in_file, warn_of_left_out
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.runtime.memory import available_memory
from mld.storage.digests import code_digest
from mld.storage.stages import DATA
from mld.training.parallel import TrainingPool
from mld_core import SPLITS, Dataset, Modality, Registry


@dataclass(frozen=True)
class PreparedData:
    """Fitted modalities, the rows, and the fingerprint of both.

    Args:
        coverage: what the rows have.
        shortfalls: what the run goes on without.
        seconds: that reading took.
        warnings: about the rows.
    """

    modalities: dict[str, Modality]
    data: Data
    fingerprint: dict[str, JsonValue]
    coverage: Coverage
    shortfalls: list[Shortfall]
    seconds: float = 0.0
    warnings: Sequence[str] = ()


def prepare(
    spec: Spec,
    registry: Registry,
    context: RunContext,
    recompute: bool = False,
    pool: TrainingPool | None = None,
    known: Mapping[str, Fit] = MappingProxyType({}),
) -> PreparedData:
    """Read and check all data; nothing is written yet, so bad data leave no trace.

    A run that has completed this stage loads its modalities, and reads rows when they are used;
    with `recompute` it begins anew.

    Args:
        pool: processes that read the rows, and then get ready to train.
        known: what some modalities have learnt in another run.
    """
    start = time.monotonic()
    with recorded_warnings() as messages, listed_in_file(context.run_dir):
        prepared = _prepare(spec, registry, context, recompute, pool, known)
    return replace(prepared, seconds=time.monotonic() - start, warnings=messages)


def _prepare(
    spec: Spec,
    registry: Registry,
    context: RunContext,
    recompute: bool,
    pool: TrainingPool | None,
    known: Mapping[str, Fit],
) -> PreparedData:
    dataset = open_dataset(spec, registry)
    rows = dataset.fingerprint()
    fingerprint = data_fingerprint(spec, registry, rows, context)
    run_dir = context.run_dir

    if not recompute and run_dir.is_current(DATA.name, fingerprint):
        record = run_dir.stage_metadata(DATA.name)
        coverage = Coverage.from_json(record["coverage"], record["classes"])
        shortfalls = check_demands(spec, registry, coverage)
        modalities = load_fitted_modalities(spec, registry, run_dir)
        fits = {
            name: Fit(modality.facts, _rejected(record, name))
            for name, modality in modalities.items()
        }
        places = item_places(spec.compute.items, rows, coverage.count, context.store)
        ahead = _read_ahead(spec, registry, dataset, places, fits, pool)
        data = _data(spec, dataset, modalities, ahead, fits, places)
    else:
        # What the dataset tells now need not wait until every item is read.
        declared = declared_coverage(dataset, spec.modalities)
        check_demands(spec, registry, declared)
        # Before other processes write to a temporary folder, which may be in memory.
        available = available_memory()
        places = item_places(spec.compute.items, rows, declared.count, context.store)
        ahead = _read_ahead(spec, registry, dataset, places, known, pool)
        fits = fit_columns(spec, dataset, registry, ahead=ahead, known=known)
        modalities = modalities_of(spec, registry, fits)
        check_item_memory(dataset, modalities, places, available)
        data = _data(spec, dataset, modalities, ahead, fits, places)
        coverage = coverage_of(data)
        shortfalls = check_demands(spec, registry, coverage)
        warn_of_left_out(data, spec.data.on_invalid)
        warn_about_rows(data, spec.evaluate)
    return PreparedData(modalities, data, fingerprint, coverage, shortfalls)


def data_fingerprint(
    spec: Spec, registry: Registry, rows: str, context: RunContext
) -> dict[str, JsonValue]:
    """Everything that decides the result of this stage.

    Args:
        rows: the fingerprint of the dataset.
    """
    kinds = sorted({modality.kind for modality in spec.modalities.values()})
    return {
        **context.fingerprint(DATA),
        "rows": rows,
        "code": {kind: code_digest(registry.modality(kind).__module__) for kind in kinds},
    }


def _data(
    spec: Spec,
    dataset: Dataset,
    modalities: Mapping[str, Modality],
    ahead: ReadAhead,
    fits: Mapping[str, Fit],
    places: ItemPlaces,
) -> Data:
    rejected = {name: fit.rejected for name, fit in fits.items()}
    return Data(dataset, modalities, ahead, spec.data.on_invalid, rejected, places)


def _read_ahead(
    spec: Spec,
    registry: Registry,
    dataset: Dataset,
    places: ItemPlaces,
    fits: Mapping[str, Fit],
    pool: TrainingPool | None,
) -> ReadAhead:
    """All rows as the processes of a pool read them, which then load what trainings need."""
    modalities = {
        name: ModalityToRead(registry.modality(section.kind), section.config, fits.get(name))
        for name, section in spec.modalities.items()
    }
    ahead = read_ahead(dataset, modalities, places, pool)
    if pool is not None:
        pool.load_libraries()
    return ahead


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


def warn_about_rows(data: Data, evaluate: EvaluateSpec) -> None:
    """Warn of labels and rows that make the scores mislead."""
    splits = {name: data.split(name).labels for name in SPLITS}
    labels = {name: None if rows is None else rows.tolist() for name, rows in splits.items()}
    of_labels = label_warnings(data.classes, labels, evaluate.judges_by_class)
    for message in chain(of_labels, repeated_row_warnings(data)):
        warnings.warn(message, stacklevel=2)


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
        faults, _ = all_faults(data)
        if faults:
            run_dir.write_text(run_dir.invalid_items, table_of_faults(faults))
            files.append(run_dir.invalid_items)
        else:
            run_dir.invalid_items.unlink(missing_ok=True)
        empty: dict[str, JsonValue] = {split: data.split(split).dropped for split in SPLITS}
        if message := _describe_empty_rows(data):
            run_dir.warn(DATA.name, message)
        return StageOutput(
            files,
            {
                "rows": {split: prepared.coverage.splits[split].count for split in SPLITS},
                "dropped": empty,
                "classes": [*data.classes],
                "coverage": prepared.coverage.as_json(),
                **_record_rejected(data),
            },
        )

    run_stage(run_dir, DATA, prepared.fingerprint, compute, lambda: None, prepared.seconds)


def _record_rejected(data: Data) -> dict[str, JsonValue]:
    """The training rows that modalities could not be fitted to, for the stage's marker."""
    rejected: dict[str, JsonValue] = {
        name: [asdict(fault) for fault in faults.values()]
        for name, faults in data.rejected.items()
        if faults
    }
    return {"rejected": rejected} if rejected else {}


def _rejected(record: Mapping[str, Any], name: str) -> dict[str, Fault]:
    """What `_record_rejected` has recorded of a modality, by row id."""
    faults = [Fault(**fault) for fault in record.get("rejected", {}).get(name, ())]
    return {fault.row: fault for fault in faults}


def _describe_empty_rows(data: Data) -> str:
    """That rows without any item are left out, with their number in each split; "" if none is."""
    counts = {split: count for split in SPLITS if (count := data.split(split).dropped)}
    total = sum(counts.values())
    listed = " and ".join(f"{count} of {split}" for split, count in counts.items())
    subject = "1 row has" if total == 1 else f"{total:,} rows have"
    return f"left out: {subject} nothing recorded ({listed})" if total else ""
