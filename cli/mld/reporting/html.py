"""What the pages share: exhibits, how numbers read, and the templates' surroundings.

What a file is shown as follows from its suffix alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from mld.reporting.charts import Dot, dot_track
from mld.reporting.number_format import (
    format_duration,
    format_fixed,
    format_interval,
    format_number,
)
from mld_core import RunDirError

_SHOWN_AS: dict[str, tuple[Literal["picture", "sound"], str]] = {
    ".png": ("picture", "image/png"),
    ".jpg": ("picture", "image/jpeg"),
    ".jpeg": ("picture", "image/jpeg"),
    ".svg": ("picture", "image/svg+xml"),
    ".wav": ("sound", "audio/wav"),
    ".flac": ("sound", "audio/flac"),
    ".ogg": ("sound", "audio/ogg"),
}
_SIDE = 112
"""Pixels of the page to which a small picture is enlarged, at most."""
_SMALL = 64
"""A picture with no longer side is drawn pixel by pixel."""


@dataclass(frozen=True)
class Exhibit:
    """One thing to see, hear or read in a cell; `source` is a data URI, or the text itself.

    A picture so small that its pixels should be seen has a width and height, in pixels of the page.
    """

    form: Literal["picture", "sound", "text", "file"]
    source: str
    name: str
    width: int | None = None
    height: int | None = None


def exhibits_of(files: Iterable[Path], cell: str | None) -> list[Exhibit]:
    """An item's files, pictures first; an inline modality's cell stands for those that it repeats.

    A text is left out where there is something to see or hear: it would be long, and says the same.
    """
    exhibits = [_exhibit(file) for file in files]
    media = [exhibit for exhibit in exhibits if exhibit.form in ("picture", "sound")]
    if cell is not None:
        exhibits = [*media, Exhibit("text", cell, "")]
    elif media:
        exhibits = [exhibit for exhibit in exhibits if exhibit.form != "text"]
    order = ("picture", "sound", "text", "file")
    return sorted(exhibits, key=lambda exhibit: order.index(exhibit.form))


def _exhibit(path: Path) -> Exhibit:
    """What a file is shown as. RunDirError if it is missing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        remedy = "recompute it with `mld run SPEC --from-stage generate`"
        raise RunDirError(f"{path} is missing: {remedy}") from None
    if path.suffix == ".txt":
        return Exhibit("text", data.decode(), path.name)
    form, mime = _SHOWN_AS.get(path.suffix, ("file", "application/octet-stream"))
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    return Exhibit(form, source, path.name, *_enlarged(data))


def _enlarged(data: bytes) -> tuple[int, int] | tuple[None, None]:
    """Width and height on the page of a small PNG picture: a whole multiple of its own."""
    if not data.startswith(b"\x89PNG"):
        return None, None
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if max(width, height) > _SMALL:
        return None, None
    times = max(1, _SIDE // max(width, height))
    return times * width, times * height


def environment(*packages: str) -> Environment:
    """Jinja environment over the shared templates and those of other packages."""
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in ("mld.reporting", *packages)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        number=format_number,
        nats=format_fixed,
        interval=format_interval,
        duration=format_duration,
    )
    jinja.globals.update(Dot=Dot, dot_track=dot_track)
    return jinja
