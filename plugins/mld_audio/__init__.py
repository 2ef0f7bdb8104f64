"""Sounds of a fixed length as a modality: log-mel in, WAV out."""

from __future__ import annotations

from mld_audio.modality import Audio, AudioConfig
from mld_core import Modality, hookimpl


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The audio modality."""
    return [Audio]


__all__ = ["Audio", "AudioConfig", "register_modalities"]
