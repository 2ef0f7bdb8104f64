"""Where the items of a run were kept while it used them, for its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mld.data.loading import SplitRows
from mld.data.stored_rows import MappedTensor


@dataclass(frozen=True)
class KeptItems:
    """The items of one modality.

    Args:
        place: "memory", or "disk", from where they were streamed.
        items, bytes: of all splits that were used.
        stored_before: how many items were on disk already.
    """

    place: Literal["memory", "disk"]
    items: int
    bytes: int
    stored_before: int


def kept_items(splits: Iterable[SplitRows]) -> dict[str, KeptItems]:
    """What splits keep of each modality; nothing without splits."""
    uses: dict[str, KeptItems] = {}
    for rows in splits:
        for name, items in rows.items.items():
            before = uses.get(name, KeptItems("memory", 0, 0, 0))
            is_on_disk = isinstance(items.packed, MappedTensor) or before.place == "disk"
            uses[name] = KeptItems(
                "disk" if is_on_disk else "memory",
                before.items + len(items.stored),
                before.bytes + items.stored.nbytes,
                before.stored_before + rows.stored_before.get(name, 0),
            )
    return uses
