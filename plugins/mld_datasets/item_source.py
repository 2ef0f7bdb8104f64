"""Raw data of a split: read from a file or a manifest's cell, and made when indexed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mld_core import MLDError, Modality, ReadError, plugin_call


@dataclass(frozen=True)
class LazyItems(Sequence[Any]):
    """The raw data of some keys, each made when indexed; None where the key is None."""

    make: Callable[[Any], Any]
    keys: Sequence[Any] | Int[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: Any) -> Any:
        key = self.keys[row]
        return None if key is None else self.make(key)


def read_item(modality: Modality, source: Path | str) -> Any:
    """What a modality reads from a path, or from the text of a cell where it is inline.

    ReadError if it cannot be read, PluginError if the plugin fails otherwise.
    """
    name = repr(source) if isinstance(source, str) else str(source)
    call = f"kind {modality.kind!r}: read of {name}"
    try:
        with plugin_call(call, passes=(MLDError, ValueError, OSError)):
            return modality.read(source)
    except (ValueError, OSError) as error:
        raise ReadError(name, error) from error
