"""Files of samples as the media of a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mld_core import SampleFile

PICTURES = (".png", ".jpg", ".jpeg")
SOUND = ".wav"
"""Suffixes of files that trackers show."""


def media_of(samples: Sequence[SampleFile], library: Any) -> dict[str, Any]:
    """The pictures and sounds of samples by name, in a library's classes `Image` and `Audio`."""
    media: dict[str, Any] = {}
    for sample in samples:
        if sample.path.suffix in PICTURES:
            media[sample.name] = library.Image(str(sample.path), caption=sample.text)
        elif sample.path.suffix == SOUND:
            media[sample.name] = library.Audio(str(sample.path))
    return media
