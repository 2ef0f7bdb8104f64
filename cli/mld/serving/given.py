"""How a modality is given on the page, by its media type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from mld.inference.trained_run import Datum
from mld_core import DataError, MediaType, Modality

Source = Literal["upload", "draw", "record", "type", "choose", "sample"]
"""Where a given datum comes from: an input of the page, or one of its samples."""

SOURCES: Mapping[MediaType, tuple[Source, ...]] = {
    "picture": ("upload", "draw"),
    "sound": ("upload", "record"),
    "text": ("type",),
    "number": ("type",),
    "file": ("upload",),
}
"""The inputs of each media type; the first is shown at first."""
DARK = 128
"""Levels of grey below which a paper is drawn on in white."""
INKS = ("#c0392b", "#e6a117", "#2e8b57", "#2467b8", "#7a4b9c")
"""Further colours to draw with, where pictures are in colour."""


def sources_of(modality: Modality) -> tuple[Source, ...]:
    """The inputs of a modality: of its media type, or the choice among few values."""
    return ("choose",) if modality.choices else SOURCES[modality.media_type]


def datum_of(source: Source, value: Any) -> Datum | None:
    """What an input's value gives to a run: a file, a text or a number, or an item.

    None if nothing is there. DataError if a drawing cannot be read.

    Args:
        value: as the input of the page has it; an item, if a sample is pinned.
    """
    if source == "draw" and value is not None:
        # Without a stroke there is a picture of the paper alone.
        value = value["composite"] if any(map(_is_drawn_on, value["layers"])) else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return Path(value) if source in ("upload", "draw", "record") else value


def _is_drawn_on(layer: str) -> bool:
    """Whether a layer of a drawing has a stroke."""
    try:
        with Image.open(layer) as picture:
            return picture.convert("RGBA").getchannel("A").getextrema() != (0, 0)
    except (OSError, ValueError) as error:
        raise DataError(f"the drawing cannot be read: {error}") from error


@dataclass(frozen=True)
class Paper:
    """What drawings are made on: a colour, and those to draw with, in hexadecimal."""

    colour: str
    inks: Sequence[str]


def paper_like(pictures: Sequence[Path]) -> Paper:
    """A paper of the colour that most pixels at the borders of some pictures have.

    White if there are none. Drawings then look like the pictures that a model was trained on.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    is_grey = bool(pictures)
    for path in pictures:
        with Image.open(path) as picture:
            is_grey = is_grey and picture.mode in ("1", "L")
            pixels = np.asarray(picture.convert("RGB"))
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        counts.update(map(tuple, border.tolist()))
    red, green, blue = counts.most_common(1)[0][0] if counts else (255, 255, 255)
    ink = "#ffffff" if (red + green + blue) / 3 < DARK else "#000000"
    return Paper(f"#{red:02x}{green:02x}{blue:02x}", [ink] if is_grey else [ink, *INKS])
