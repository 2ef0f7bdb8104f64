"""Pages of findings: rows to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from mld.data.items import write_item
from mld.reporting.html import Exhibit, environment, exhibits_of
from mld.storage.files import atomic_write
from mld_core import Modality


@dataclass(frozen=True)
class GalleryCell:
    """One cell of a gallery: what is shown, and a few words about it; marked where generated."""

    exhibits: Sequence[Exhibit]
    tag: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a gallery."""

    name: str
    notes: Sequence[str]
    cells: Mapping[str, GalleryCell]


@dataclass(frozen=True)
class GalleryPage:
    """What a page shows.

    Args:
        title: of the page.
        lede: what it is about, in a few sentences.
        names: the columns of the gallery.
        about: what its rows are.
        rows: to look at; the gallery is left out where there are none.
    """

    title: str
    lede: str
    names: Sequence[str]
    about: str
    rows: Sequence[Row]


def write_gallery(path: Path, page: GalleryPage) -> None:
    """Write one self-contained HTML page."""
    template = environment().get_template("gallery.html.j2")
    with atomic_write(path) as partial:
        partial.write_text(template.render(page=page), encoding="utf-8")


def exhibits(modality: Modality, x: Tensor) -> list[Exhibit]:
    """What an item is shown as: its text where inline, and pictures and sounds."""
    with TemporaryDirectory() as folder:
        cell, files = write_item(modality, x, Path(folder) / "item")
        return exhibits_of(files, cell)
