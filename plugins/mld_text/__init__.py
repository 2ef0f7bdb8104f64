"""The modality `text`: short strings of any language, byte by byte.

phrases  ─┐
symbols  ─┼─> modality
networks ─┤
metrics  ─┘
"""

from __future__ import annotations

from mld_core import Modality, hookimpl
from mld_text.modality import Text, TextConfig


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality `text`."""
    return [Text]


__all__ = ["Text", "TextConfig"]
