"""Trained autoencoders and classifiers, kept under the digest of all that decides their weights.

So a suite of experiments trains each only once. A run directory is complete without the store.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mld.storage.digests import digest
from mld.storage.files import load_tensors, save_tensors
from mld_core.errors import RunDirError

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor


@dataclass(frozen=True)
class Store:
    """A folder of trained weights, shared by all runs of a user."""

    root: Path

    @classmethod
    def default(cls) -> Store:
        """The store that MLD_STORE names, or the one in the user's cache folder."""
        from platformdirs import user_cache_path

        named = os.environ.get("MLD_STORE")
        return cls(Path(named).expanduser() if named else user_cache_path("mld"))

    @contextmanager
    def entry(self, key: Mapping[str, JsonValue]) -> Iterator[Entry]:
        """The place of one key, held until the block ends: others who want it wait."""
        from filelock import FileLock

        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock")).acquire()
        except OSError as error:
            raise RunDirError(
                f"the store {self.root} cannot be written ({error}): set MLD_STORE to a folder "
                "that can"
            ) from error
        with lock:
            yield Entry(path, dict(key))

    def is_held(self, key: Mapping[str, JsonValue]) -> bool:
        """Whether another process holds the place of a key at the moment."""
        from filelock import FileLock, Timeout

        lock = self._path(key).with_suffix(".lock")
        if not lock.exists():
            return False
        try:
            with FileLock(lock).acquire(blocking=False):
                return False
        except Timeout:
            return True

    def _path(self, key: Mapping[str, JsonValue]) -> Path:
        name = digest(key)
        return self.root / name[:2] / f"{name}.safetensors"


class Entry:
    """One key's weights, there or not yet; only valid while its lock is held."""

    def __init__(self, path: Path, key: Mapping[str, JsonValue]) -> None:
        self._path = path
        self._key = key

    @property
    def found(self) -> bool:
        """Whether the weights are there and intact; corrupt ones are removed, with a warning."""
        return self._kept is not None

    def read(self) -> dict[str, Tensor]:
        """The weights. RunDirError if they are not there."""
        if self._kept is None:
            raise RunDirError(f"the store has nothing at {self._path}")
        return self._kept

    def write(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Keep weights under this key; the key itself is kept beside the metadata, to be read."""
        save_tensors(self._path, tensors, {**metadata, "key": json.dumps(self._key)})
        self.__dict__.pop("_kept", None)

    @cached_property
    def _kept(self) -> dict[str, Tensor] | None:
        if not self._path.is_file():
            return None
        try:
            return load_tensors(self._path)[0]
        except RunDirError as error:
            warnings.warn(f"{error}; removed from the store", stacklevel=4)
            self._path.unlink()
            return None
