"""Settings of the modality `text`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mld_core import LatentConfig, StructuredConfig

MAX_BYTES = 1024
"""Largest value of the setting `max_bytes`."""


MAX_VECTOR_BYTES = 32
"""Longest text for which a first spec has a latent vector; longer texts have a sequence."""
MAX_FINE_BYTES = 256
"""Longest text whose sequence has a position for each 4 bytes in a first spec, not 8."""


class SequenceLatent(LatentConfig):
    """A sequence of positions along the text."""

    channels: int = Field(
        default=16, ge=2, le=256, description="numbers at each position of the sequence"
    )
    downsampling: int = Field(default=4, ge=1, le=64, description="bytes that one position covers")


class TextConfig(StructuredConfig[SequenceLatent]):
    """Length of a text, and its latent: a vector, or a sequence for longer texts."""

    latent_dim: int | None = Field(32, ge=2, description="length of the latent vector of one text")
    max_bytes: int = Field(32, ge=1, le=MAX_BYTES, description="longest text, in bytes of UTF-8")
    too_long: Literal["error", "truncate"] = Field(
        "error", description="what to do with a longer text: truncate keeps its beginning"
    )

    def suggested_latent(self) -> SequenceLatent | None:
        """A sequence for texts of more than 32 bytes, with fewer positions above 256."""
        if self.max_bytes <= MAX_VECTOR_BYTES:
            return None
        if self.max_bytes <= MAX_FINE_BYTES:
            return SequenceLatent()
        return SequenceLatent(channels=32, downsampling=8)
