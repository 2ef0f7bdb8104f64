"""What a store holds, trained weights and items, and the deletion of what is not used any more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mld.data.item_store import ITEMS_FILE, LOCK_FILE, STATE_FILE
from mld.storage.locks import is_used
from mld.storage.weight_store import WeightStore
from mld_core import OutputError

SECONDS_PER_DAY = 86_400
WEIGHTS_SUFFIX, LOCK_SUFFIX = ".safetensors", ".lock"

_SHARING_VIOLATION = 32
"""Windows says by this number that a file cannot be deleted since a process has it open."""


@dataclass(frozen=True)
class StoredEntry:
    """The weights of one training, or the items of one column.

    Args:
        content: what it is, in words; "" if its file does not say.
        files: that are deleted with it, the first one first.
        lock: of the process that writes it; it stays.
        size: in bytes.
        used_at: when it was last used, in seconds since 1970.
    """

    kind: Literal["weights", "items"]
    content: str
    files: Sequence[Path]
    lock: Path
    size: int
    used_at: float

    def delete(self) -> bool:
        """Delete it, unless it is in use; whether it is gone. OutputError if that is forbidden."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.lock).acquire(blocking=False):
                if any(is_used(file) for file in self.files):
                    return False
                for file in self.files:
                    file.unlink(missing_ok=True)
        except Timeout:
            return False
        except PermissionError as error:
            if getattr(error, "winerror", None) == _SHARING_VIOLATION:
                return False
            raise OutputError(f"{self.files[0]} cannot be deleted: {error.strerror}") from error
        return True


def stored_entries(store: WeightStore) -> list[StoredEntry]:
    """All entries of a store, the last used one first."""
    return sorted((*_weights(store), *_items(store)), key=lambda entry: -entry.used_at)


def to_prune(
    entries: Iterable[StoredEntry], older_than_days: float, keep_bytes: int | None
) -> list[StoredEntry]:
    """The entries that have not been used for so long, or that exceed a size.

    Args:
        entries: the last used one first.
        keep_bytes: of all entries that stay; None for any number.
    """
    oldest, total, pruned = time.time() - older_than_days * SECONDS_PER_DAY, 0, []
    for entry in entries:
        is_too_much = keep_bytes is not None and total + entry.size > keep_bytes
        if is_too_much or entry.used_at < oldest:
            pruned.append(entry)
        else:
            total += entry.size
    return pruned


def _weights(store: WeightStore) -> Iterator[StoredEntry]:
    for path in store.root.glob(f"??/*{WEIGHTS_SUFFIX}"):
        key = _key_of_weights(path)
        names = (key.get("job"), key.get("name"), key.get("kind"))
        content = " ".join(str(name) for name in names if name)
        yield from _entry("weights", content, [path], path.with_suffix(LOCK_SUFFIX))


def _items(store: WeightStore) -> Iterator[StoredEntry]:
    """Also those that a command has left which was killed before it could delete them."""
    for path in store.items.rglob(STATE_FILE):
        key = _read_json(path).get("key", {})
        content = " ".join(str(key[name]) for name in ("split", "column", "kind") if name in key)
        yield from _entry(
            "items", content, [path, path.with_name(ITEMS_FILE)], path.with_name(LOCK_FILE)
        )


def _entry(
    kind: Literal["weights", "items"], content: str, files: Sequence[Path], lock: Path
) -> Iterator[StoredEntry]:
    """The entry of files; none if another process has deleted them by now."""
    with suppress(FileNotFoundError):
        states = [file.stat() for file in files if file.exists()]
        if states:
            used_at = max(state.st_mtime for state in states)
            yield StoredEntry(kind, content, files, lock, sum(s.st_size for s in states), used_at)


def _key_of_weights(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, ValueError), safe_open(path, framework="np") as file:
        key = json.loads((file.metadata() or {}).get("key", "{}"))
        return key if isinstance(key, dict) else {}
    return {}


def _read_json(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}
