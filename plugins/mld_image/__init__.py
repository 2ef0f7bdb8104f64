"""The modality `image`: square images, in greyscale or colour."""

from __future__ import annotations

from mld_core import Modality, hookimpl
from mld_image.config import ImageConfig
from mld_image.modality import ImageModality


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The image modality."""
    return [ImageModality]


__all__ = ["ImageConfig", "ImageModality", "register_modalities"]
