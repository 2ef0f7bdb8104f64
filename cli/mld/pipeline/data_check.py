"""A look at all rows of a spec's data, before anything is trained."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mld.config.spec import Spec
from mld.data.coverage import Coverage, coverage_of, declared_coverage
from mld.data.faults import InvalidItemsError
from mld.data.item_memory import check_item_memory
from mld.data.item_places import item_places
from mld.data.loading import (
    INVALID_ADVICE,
    Data,
    all_faults,
    fit_columns,
    modalities_of,
    open_dataset,
)
from mld.data.quality import label_warnings, repeated_row_warnings
from mld.data.statistics import (
    ColumnStatistics,
    column_statistics,
    column_warnings,
    repeated_rows,
)
from mld.data.types import subset_key
from mld.pipeline.demands import check_demands
from mld.pipeline.invalid_items import warn_of_left_out
from mld.runtime.memory import available_memory
from mld.storage.weight_store import WeightStore
from mld_core import SPLITS, DataError, Registry


@dataclass(frozen=True)
class DataCheck:
    """What the rows of a dataset are.

    Args:
        rows: by split, without those that are empty or dropped.
        columns: by modality.
        patterns: the number of rows by the modalities that they have, such as "a+b".
        repeated: rows that equal an earlier one in every cell.
        classes: rows of each class by split; empty without labels.
        warnings: what may make a run worse.
        errors: what makes `mld run` fail.
    """

    rows: Mapping[str, int]
    columns: Mapping[str, ColumnStatistics]
    patterns: Mapping[str, int]
    repeated: int
    classes: Mapping[str, Mapping[str, int]]
    warnings: Sequence[str]
    errors: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return asdict(self)


def check_data(spec: Spec, registry: Registry, store: WeightStore | None = None) -> DataCheck:
    """Read all rows of a spec's data through its modalities; trains nothing.

    DataError if the data cannot be read at all, or a modality has no item that can be used.

    Args:
        store: beside whose weights items are kept; by default, in the user's cache folder.
    """
    errors: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        dataset = open_dataset(spec, registry)
        fits = fit_columns(spec, dataset, registry)
        modalities = modalities_of(spec, registry, fits)
        rows = declared_coverage(dataset, spec.modalities).count
        places = item_places(spec.compute.items, dataset.fingerprint(), rows, store)
        try:
            check_item_memory(dataset, modalities, places, available_memory())
        except DataError as error:
            errors.append(str(error))
        policy = spec.data.on_invalid
        rejected = {name: fit.rejected for name, fit in fits.items()}
        data = Data(
            dataset,
            modalities,
            on_invalid="empty" if policy == "error" else policy,
            rejected=rejected,
            places=places,
        )
        faults, items = all_faults(data)
        if policy != "error":
            warn_of_left_out(data, policy)
        elif faults:
            errors.append(str(InvalidItemsError(faults, items, INVALID_ADVICE)))
    messages = [str(warning.message) for warning in caught]
    coverage = coverage_of(data)
    try:
        messages += [message for _, message in check_demands(spec, registry, coverage)]
    except DataError as error:
        errors.append(str(error))
    columns = {
        name: column_statistics(data, dataset, name, modality)
        for name, modality in modalities.items()
    }
    labels = {name: data.split(name).labels for name in SPLITS}
    lists = {name: None if rows is None else rows.tolist() for name, rows in labels.items()}
    messages += label_warnings(data.classes, lists)
    messages += repeated_row_warnings(data)
    messages += column_warnings(columns)
    return DataCheck(
        rows={name: len(data.split(name).ids) for name in SPLITS},
        columns=columns,
        patterns=_patterns(coverage),
        repeated=repeated_rows(data),
        classes={
            label: {name: (lists[name] or []).count(index) for name in SPLITS}
            for index, label in enumerate(data.classes)
        },
        warnings=list(dict.fromkeys(messages)),
        errors=errors,
    )


def _patterns(coverage: Coverage) -> dict[str, int]:
    """The number of rows by what they have, the most frequent first."""
    counts: Counter[str] = Counter()
    for split in coverage.splits.values():
        counts.update({subset_key(recorded): count for recorded, count in split.rows.items()})
    return dict(counts.most_common())
