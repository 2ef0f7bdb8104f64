"""Trained weights, stored under the digest of everything that decides them.

Experiments that share a training run it once. A run directory is complete without the store.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mld.storage.digests import digest
from mld.storage.files import load_json, load_tensors, save_tensors, write_json
from mld_core.errors import OutputError, RunDirError

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor


@dataclass(frozen=True)
class WeightStore:
    """A folder of trained weights, shared by all runs of a user."""

    root: Path

    @classmethod
    def in_user_cache(cls) -> WeightStore:
        """The store in the user's cache folder."""
        from platformdirs import user_cache_path

        return cls(user_cache_path("mld"))

    @property
    def items(self) -> Path:
        """The folder of items beside the weights."""
        return self.root / "items"

    @contextmanager
    def entry(self, key: Mapping[str, JsonValue]) -> Iterator[StoreEntry]:
        """The entry of a key, locked until the block ends: other processes wait for it."""
        from filelock import FileLock

        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock")).acquire()
        except OSError as error:
            raise RunDirError(
                f"the weight store {self.root} cannot be written ({error}): set MLD_STORE to a "
                "writable folder"
            ) from error
        with lock:
            yield StoreEntry(path, dict(key))

    def is_locked(self, key: Mapping[str, JsonValue]) -> bool:
        """Whether another process holds the entry of a key now."""
        from filelock import FileLock, Timeout

        lock = self._path(key).with_suffix(".lock")
        if not lock.exists():
            return False
        try:
            with FileLock(lock).acquire(blocking=False):
                return False
        except Timeout:
            return True

    def record_origin(self, origin: Mapping[str, JsonValue], key: Mapping[str, JsonValue]) -> None:
        """Remember under which key the weights of an origin are; it is no loss if that fails."""
        with suppress(OutputError):
            write_json(self._origin_path(origin), {"entry": digest(key)})

    def has_origin(self, origin: Mapping[str, JsonValue]) -> bool:
        """Whether there are weights of an origin; writes nothing."""
        try:
            name = load_json(self._origin_path(origin))["entry"]
            return self._entry_path(name).is_file()
        except (RunDirError, LookupError, TypeError):
            return False

    def _origin_path(self, origin: Mapping[str, JsonValue]) -> Path:
        name = digest(origin)
        return self.root / "origins" / name[:2] / f"{name}.json"

    def _path(self, key: Mapping[str, JsonValue]) -> Path:
        return self._entry_path(digest(key))

    def _entry_path(self, name: str) -> Path:
        return self.root / name[:2] / f"{name}.safetensors"


@dataclass(frozen=True)
class StoreEntry:
    """The weights of one key; only valid while its lock is held."""

    path: Path
    key: Mapping[str, JsonValue]

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The weights, and what was stored about them; None if there are none.

        Corrupt ones are deleted, with a warning.
        """
        if not self.path.is_file():
            return None
        try:
            tensors, metadata = load_tensors(self.path)
            with suppress(OSError):
                os.utime(self.path)  # the time of its last use
            return tensors, json.loads(metadata.get("about", "{}"))
        except RunDirError as error:
            warnings.warn(f"{error}; removed from the store", stacklevel=2)
            self.path.unlink()
            return None

    def write(self, tensors: Mapping[str, Tensor], about: Mapping[str, JsonValue]) -> None:
        """Store weights, what is to be known about them, and the key to be read by people.

        If that fails there is a warning: the run that has trained them does not need the store.
        """
        try:
            metadata = {"key": json.dumps(self.key), "about": json.dumps(dict(about))}
            save_tensors(self.path, tensors, metadata)
        except OutputError as error:
            warnings.warn(f"{error}; the weights are not stored for other runs", stacklevel=2)
