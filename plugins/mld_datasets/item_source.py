"""Reading one raw datum from a file, or from a manifest's cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mld_core import MLDError, Modality, plugin_call


def read_item(modality: Modality, source: Path | str) -> Any:
    """What a modality reads from a path, or from the text of a cell where it is inline.

    ValueError names the source if it cannot be read, PluginError the plugin if it fails otherwise.
    """
    name = repr(source) if isinstance(source, str) else str(source)
    call = f"kind {modality.kind!r}: read of {name}"
    try:
        with plugin_call(call, passes=(MLDError, ValueError, OSError)):
            return modality.read(source)
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
