"""Items as files: writing one item with its previews."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mld_core import Modality, plugin_call


def write_item(modality: Modality, x: Tensor, stem: Path) -> tuple[str | None, list[Path]]:
    """Write one item: its manifest cell if it is inline, and the file with its previews.

    PluginError names the plugin and the method if one of them fails.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    kind = f"kind {modality.kind!r}"
    with plugin_call(f"{kind}: write of {stem}"):
        file = modality.write(x, stem)
    with plugin_call(f"{kind}: preview of {stem}"):
        previews = modality.preview(x, stem)
    with plugin_call(f"{kind}: cell of {stem}"):
        cell = modality.cell(x) if modality.inline else None
    return cell, [file, *previews]
