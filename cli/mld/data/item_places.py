"""Where the items of a dataset are kept: in memory, or on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from pydantic import JsonValue

from mld.config.sections import ItemPlace
from mld.data.columns import Column, ColumnInMemory, ColumnSink
from mld.data.item_store import ItemStore
from mld.storage.digests import code_digest
from mld.storage.weight_store import WeightStore
from mld_core import Modality

TEMPORARY = "temporary-"
"""How names of folders begin that one command fills and deletes."""
MEMORY_BYTES = 2**28
"""A modality with more bytes of packed items is kept on disk, unless the spec says otherwise."""


@dataclass(frozen=True)
class ItemPlaces:
    """Where the items of each modality are kept.

    Args:
        setting: of the spec.
        store: on disk; None to keep all in memory.
        rows: of all splits.
    """

    setting: ItemPlace
    store: ItemStore | None
    rows: int

    def is_on_disk(self, item_bytes: int) -> bool:
        """Whether a modality is kept on disk whose packed items have so many bytes."""
        if self.store is None or self.setting == "memory":
            return False
        return self.setting == "disk" or self.rows * item_bytes > MEMORY_BYTES

    @contextmanager
    def sink(self, column: Column, modality: Modality, item_bytes: int) -> Iterator[ColumnSink]:
        """Where the items of a column are kept, each of which has so many bytes when packed."""
        rows = len(column.split.ids)
        if self.store is None or not self.is_on_disk(item_bytes):
            yield ColumnInMemory(rows)
            return
        key: dict[str, JsonValue] = {
            "split": column.split_name,
            "column": column.name,
            "kind": modality.kind,
            "config": modality.config.model_dump(mode="json"),
            "facts": dict(modality.facts),
            "plugin": code_digest(type(modality).__module__),
            "rejected": [*sorted(column.rejected)],
        }
        with self.store.column(key, rows) as in_file:
            yield in_file


@contextmanager
def temporary_places(setting: ItemPlace, rows: int, store: WeightStore) -> Iterator[ItemPlaces]:
    """The places that a spec chooses for rows whose files are deleted when the block ends.

    A tensor that is mapped by then stays readable for as long as it is used.
    """
    root = store.items / f"{TEMPORARY}{uuid4().hex}"
    try:
        yield ItemPlaces(setting, ItemStore(root, ""), rows)
    finally:
        shutil.rmtree(root, ignore_errors=True)


IN_MEMORY = ItemPlaces("memory", None, 0)


def item_places(
    setting: ItemPlace, fingerprint: str, rows: int, store: WeightStore | None
) -> ItemPlaces:
    """The places that a spec chooses for the rows of a dataset.

    Args:
        fingerprint: of the dataset.
        store: beside whose weights items are kept; by default, in the user's cache folder.
    """
    root = (store or WeightStore.in_user_cache()).items
    return ItemPlaces(setting, ItemStore(root, fingerprint), rows)
