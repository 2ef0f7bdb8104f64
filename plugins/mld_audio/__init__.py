"""The modality `audio`: sounds of a fixed length, as log-mel spectrograms."""

from __future__ import annotations

from mld_audio.config import AudioConfig
from mld_audio.modality import Audio
from mld_core import Modality, hookimpl


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The audio modality."""
    return [Audio]


__all__ = ["Audio", "AudioConfig", "register_modalities"]
