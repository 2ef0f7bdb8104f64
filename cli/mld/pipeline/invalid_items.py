"""Items that a run cannot use: told in full, in a file of the run where a message is too short."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mld.config.plugin_sections import OnInvalid
from mld.data.faults import InvalidItemsError, count_splits, list_faults, table_of_faults
from mld.data.loading import Data, all_faults
from mld.storage.run_dir import RunDir
from mld_core import DataError
from mld_core.errors import MAX_ERRORS_SHOWN


@contextmanager
def listed_in_file(run_dir: RunDir) -> Iterator[None]:
    """Around the reading of data: more invalid items than a message shows are listed in a file."""
    try:
        yield
    except InvalidItemsError as error:
        if len(error.faults) <= MAX_ERRORS_SHOWN:
            raise
        with run_dir.claim():
            run_dir.write_text(run_dir.invalid_items, table_of_faults(error.faults))
        raise DataError(f"{error}\nall of them are listed in {run_dir.invalid_items}") from error


def warn_of_left_out(data: Data, on_invalid: OnInvalid) -> None:
    """Warn of the items that cannot be used and that a run goes on without, if there are any."""
    faults, items = all_faults(data)
    if not faults:
        return
    rows = len({fault.row for fault in faults})
    what = {
        "drop": f"leaves out {rows:,} rows with {len(faults):,}",
        "empty": f"leaves the cells of {len(faults):,}",
    }[on_invalid]
    end = {"drop": "", "empty": " empty"}[on_invalid]
    splits = count_splits(faults)
    head = f"data.on_invalid: {on_invalid} {what} items that cannot be used{end} ({splits})"
    warnings.warn(list_faults(head, faults, items), stacklevel=2)
