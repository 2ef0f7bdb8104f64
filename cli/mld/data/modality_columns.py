"""A modality and its columns: constructed, fitted, and read into tensors.

Columns are read with one thread: an item is small, and more threads mostly wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mld.data.columns import PLUGIN_ERRORS, Column, ColumnItems
from mld.data.faults import Fault, InvalidItemsError
from mld.data.item_places import ItemPlaces
from mld.runtime.compute import limited_threads
from mld_core import (
    DataError,
    Modality,
    PluginError,
    SpecError,
    plugin_call,
)


def build_modality(
    name: str,
    plugin_class: type[Modality],
    config: Any,
    facts: Mapping[str, Any] | None,
) -> Modality:
    """The modality `name` of a spec. SpecError if it rejects its settings."""
    try:
        with plugin_call(f"kind {plugin_class.kind!r}: the constructor", passes=PLUGIN_ERRORS):
            return plugin_class(config, facts)
    except (ValueError, OSError) as error:
        raise SpecError(f"modalities.{name}: {error}") from error


@dataclass(frozen=True)
class Fit:
    """What a modality has learnt from the training split.

    Args:
        facts: for its constructor.
        rejected: training rows that it cannot be fitted to, by id.
    """

    facts: Any
    rejected: Mapping[str, Fault] = field(default_factory=dict)


@limited_threads(1)
def fit_column(column: Column, plugin_class: type[Modality], config: Any) -> Fit:
    """What a modality learns from the items of a column that can be used.

    DataError if there are none or they cannot be used together, PluginError for facts that are not
    JSON.
    """

    def fit(raw: Iterable[Any]) -> Any:
        with plugin_call(f"kind {plugin_class.kind!r}: fit", passes=PLUGIN_ERRORS):
            return plugin_class.fit(config, raw)

    rejected: Mapping[str, Fault] = {}
    try:
        try:
            facts = fit(column)
        except (ValueError, OSError):
            rejected = column.faults_of_fit(fit)
            if not rejected:
                raise
            facts = fit(replace(column, rejected=rejected))
    except (ValueError, OSError) as error:
        faults = [*column.faults_of_reading(), *rejected.values()]
        if faults:
            raise InvalidItemsError(faults, {}) from error
        raise DataError(f"modality {column.name!r} cannot be fitted: {error}") from error
    try:
        return Fit(json.loads(json.dumps(facts, allow_nan=False)), rejected)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"kind {plugin_class.kind!r}: fit returned a value that is not JSON: {error}"
        ) from error


@limited_threads(1)
def load_column(
    column: Column, modality: Modality, places: ItemPlaces, item_bytes: int
) -> ColumnItems:
    """The items of a column, each of which has so many bytes when packed."""
    with places.sink(column, modality, item_bytes) as sink:
        return column.load(modality, f"read {column.split_name} {column.name}", sink)
