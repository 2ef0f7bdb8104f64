"""The modality `text`: short strings in any language, as UTF-8 bytes."""

from __future__ import annotations

from mld_core import Modality, hookimpl
from mld_text.config import TextConfig
from mld_text.modality import Text


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The text modality."""
    return [Text]


__all__ = ["Text", "TextConfig", "register_modalities"]
