"""Media of items and the template environment, shared by all pages."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from mld.reporting import number_format
from mld.reporting.charts import Dot, dot_track
from mld_core import RunDirError

if TYPE_CHECKING:
    from mld_core import MediaType

_MEDIA_TYPES: dict[str, tuple[MediaType, str]] = {
    ".png": ("picture", "image/png"),
    ".jpg": ("picture", "image/jpeg"),
    ".jpeg": ("picture", "image/jpeg"),
    ".svg": ("picture", "image/svg+xml"),
    ".wav": ("sound", "audio/wav"),
    ".flac": ("sound", "audio/flac"),
    ".ogg": ("sound", "audio/ogg"),
}
"""How a file is shown and its MIME type, by suffix alone; the core knows no modality."""
_OTHER_FILE: tuple[MediaType, str] = ("file", "application/octet-stream")
MACHINE_FACTS = (
    "mld",
    "python",
    "torch",
    "platform",
    "processor",
    "vector instructions",
    "cores",
    "device",
    "precision",
    "threads",
)
"""Entries of a run's provenance that pages show: versions, and what computed it."""
MAX_ENLARGED_SIDE_PX = 112
"""Longest side, in CSS pixels, to which a small picture is enlarged."""
MAX_PIXELATED_SIDE = 64
"""Pictures whose longest side, in pixels, is at most this are enlarged pixel by pixel."""


@dataclass(frozen=True)
class Media:
    """One thing to see, hear or read in a cell.

    Args:
        type: how it is shown.
        source: a data URI, or the text itself.
        name: of the file, "" for an inline cell.
        width, height: in CSS pixels, for a picture so small that it is drawn pixel by pixel.
    """

    type: MediaType
    source: str
    name: str
    width: int | None = None
    height: int | None = None


def media_of(files: Iterable[Path], cell: str | None) -> list[Media]:
    """The media of an item's files, pictures first; `cell` is the text of an inline modality.

    The cell replaces files that are neither picture nor sound, as they repeat it. Without a cell,
    texts are left out where there is a picture or sound, as they are long and repeat that.
    RunDirError if a file is missing.
    """
    media = [_load_media(file) for file in files]
    audiovisual = [item for item in media if item.type in ("picture", "sound")]
    if cell is not None:
        media = [*audiovisual, Media("text", cell, "")]
    elif audiovisual:
        media = [item for item in media if item.type != "text"]
    order = ("picture", "sound", "text", "file")
    return sorted(media, key=lambda item: order.index(item.type))


def media_type_of(file: Path) -> MediaType:
    """How a file is shown, by its suffix."""
    return _MEDIA_TYPES.get(file.suffix, _OTHER_FILE)[0]


def _load_media(path: Path) -> Media:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        remedy = "recompute it with `mld run SPEC --from-stage generate`"
        raise RunDirError(f"{path} is missing: {remedy}") from None
    if path.suffix == ".txt":
        return Media("text", data.decode(errors="replace"), path.name)
    media_type, mime_type = _MEDIA_TYPES.get(path.suffix, _OTHER_FILE)
    source = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
    return Media(media_type, source, path.name, *_enlarged_size(data))


def _enlarged_size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    """Width and height of a small PNG picture times a whole number; None for anything else."""
    if not data.startswith(b"\x89PNG"):
        return None, None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if max(width, height) > MAX_PIXELATED_SIDE:
        return None, None
    factor = max(1, MAX_ENLARGED_SIDE_PX // max(width, height))
    return factor * width, factor * height


@cache
def environment(*packages: str) -> Environment:
    """The Jinja environment with the shared templates and those of other packages."""
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in ("mld.reporting", *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        number=number_format.format_number,
        nats=number_format.format_fixed,
        interval=number_format.format_interval,
        duration=number_format.format_duration,
    )
    jinja.globals.update(Dot=Dot, dot_track=dot_track, machine_facts=MACHINE_FACTS)
    return jinja
