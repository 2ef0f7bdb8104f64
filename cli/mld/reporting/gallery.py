"""Pages that show rows of data, one column for each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from mld.data.items import write_item
from mld.reporting.html import Media, environment, media_of
from mld.storage.files import write_text
from mld_core import Modality


@dataclass(frozen=True)
class GalleryCell:
    """One item, with a short caption; `given` items are tinted."""

    media: Sequence[Media]
    caption: str = ""
    given: bool = False


@dataclass(frozen=True)
class GalleryRow:
    """One row of a gallery: its name, notes below the name, and cells by column."""

    name: str
    notes: Sequence[str]
    cells: Mapping[str, GalleryCell]


@dataclass(frozen=True)
class GalleryTable:
    """A table above the gallery; the first cell of a row is its head.

    Args:
        texts: the number of first columns that hold words, which stand on the left; the others hold
            numbers, which stand on the right.
    """

    title: str
    about: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class GalleryPage:
    """A page with a gallery.

    Args:
        title: of the page.
        lede: what the page is about, in a few sentences.
        names: the columns of the gallery.
        about: what its rows and captions mean.
        rows: of the gallery, which is left out where there are none.
        tables: above the gallery.
    """

    title: str
    lede: str
    names: Sequence[str]
    about: str
    rows: Sequence[GalleryRow]
    tables: Sequence[GalleryTable] = ()


def write_gallery(path: Path, page: GalleryPage) -> None:
    """Write one self-contained HTML page."""
    template = environment().get_template("gallery.html.j2")
    write_text(path, template.render(page=page))


def gallery_fragment(names: Sequence[str], rows: Sequence[GalleryRow], caption: str) -> str:
    """A table of rows as HTML within another page, such as a notebook."""
    template = environment().get_template("fragment.html.j2")
    return template.render(names=names, rows=rows, caption=caption)


def item_media(modality: Modality, x: Tensor) -> list[Media]:
    """What an item is shown as: its text where inline, and its pictures and sounds."""
    with TemporaryDirectory() as folder:
        cell, files = write_item(modality, x, Path(folder) / "item")
        return media_of(files, cell)
