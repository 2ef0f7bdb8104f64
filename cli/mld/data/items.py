"""Items as files: writing one with its previews."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mld_core import Modality, PluginError


def write_item(modality: Modality, x: Tensor, stem: Path) -> tuple[str | None, list[Path]]:
    """Write one item: its manifest cell if it is inline, and the file with its previews.

    PluginError names the plugin and the method if one of them fails.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    method = "write"
    try:
        written = modality.write(x, stem)
        method = "preview"
        previews = modality.preview(x, stem)
        method = "cell"
        cell = modality.cell(x) if modality.inline else None
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise PluginError(f"kind {modality.kind!r}: {method} failed on {stem}: {told}") from error
    return cell, [written, *previews]
