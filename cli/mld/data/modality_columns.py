"""A modality and its columns: constructed, fitted, and read into tensors.

Columns are read with one thread: an item is small, and more threads mostly wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from mld.data.columns import PLUGIN_ERRORS, Column, ColumnItems, format_item_errors
from mld.runtime.compute import limited_threads
from mld_core import (
    DataError,
    Modality,
    PluginError,
    SpecError,
    Split,
    SplitName,
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


@limited_threads(1)
def fit_column(column: Column, plugin_class: type[Modality], config: Any) -> Any:
    """The facts that a modality learns from a column.

    DataError with all rows that cannot be used, PluginError for facts that are not JSON.
    """

    def fit(raw: Iterable[Any]) -> Any:
        with plugin_call(f"kind {plugin_class.kind!r}: fit", passes=PLUGIN_ERRORS):
            return plugin_class.fit(config, raw)

    try:
        facts = fit(column)
    except (ValueError, OSError, DataError) as error:
        if errors := column.fit_errors(fit):
            raise DataError(format_item_errors("the train split", errors)) from error
        if isinstance(error, DataError):
            raise
        raise DataError(f"modality {column.name!r} cannot be fitted: {error}") from error
    try:
        return json.loads(json.dumps(facts, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"kind {plugin_class.kind!r}: fit returned a value that is not JSON: {error}"
        ) from error


@limited_threads(1)
def load_column(
    split: Split, split_name: SplitName, dataset: str, name: str, modality: Modality
) -> ColumnItems:
    """The items of a modality `name` in a split of a dataset of kind `dataset`."""
    return Column(split, name, dataset).load(modality, f"read {split_name} {name}")
