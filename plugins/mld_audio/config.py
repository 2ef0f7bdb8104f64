"""Settings of the modality `audio`."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from mld_core import LatentConfig, StructuredConfig

MAX_VECTOR_FRAMES = 64
"""Most frames of which a first spec has a latent vector; longer sounds have a sequence."""
MAX_FINE_FRAMES = 512
"""Most frames whose sequence has a position for each 4 of them in a first spec, not 8."""


class SequenceLatent(LatentConfig):
    """A sequence of positions in time."""

    channels: int = Field(
        default=32, ge=2, le=256, description="numbers at each position of the sequence"
    )
    downsampling: int = Field(
        default=4, ge=1, le=32, description="frames of the spectrogram that one position covers"
    )


class AudioConfig(StructuredConfig[SequenceLatent]):
    """Length of a sound, and resolution of its spectrogram in time and frequency.

    The defaults suit half a second of telephone sound: 64 bands by 32 frames, which separate
    tones 73 Hz apart. For speech at 16 kHz, sample_rate 16000 with n_fft 1024 and hop 256 gives a
    spectrogram of the same shape with twice the bandwidth.
    """

    latent_dim: PositiveInt | None = Field(
        16, description="length of the latent vector of one sound"
    )
    sample_rate: int = Field(
        8000, ge=4000, le=192_000, description="samples per second; other rates are resampled"
    )
    seconds: float = Field(
        0.5, gt=0, le=60, description="length in seconds; shorter sounds are padded with silence"
    )
    too_long: Literal["error", "truncate"] = Field(
        "error",
        description="what to do with a sound longer than `seconds`: truncate keeps its beginning",
    )
    mels: int = Field(64, ge=16, le=256, description="bands of the mel spectrogram")
    n_fft: int = Field(512, ge=64, le=8192, description="samples in one frame of the spectrogram")
    hop: int = Field(128, ge=16, le=4096, description="samples between the starts of two frames")
    width: int = Field(48, ge=16, le=1024, multiple_of=8, description="channels of the networks")

    def suggested_latent(self) -> SequenceLatent | None:
        """A sequence for spectrograms of more than 64 frames, with fewer numbers above 512."""
        if self.frames <= MAX_VECTOR_FRAMES:
            return None
        if self.frames <= MAX_FINE_FRAMES:
            return SequenceLatent()
        return SequenceLatent(channels=16, downsampling=8)

    @property
    def samples(self) -> int:
        """Length of an item in samples."""
        return round(self.seconds * self.sample_rate)

    @property
    def frames(self) -> int:
        """Length of an item in frames; the first is centred on the first sample."""
        return 1 + self.samples // self.hop

    @model_validator(mode="after")
    def _check_resolution(self) -> Self:
        if self.hop > self.n_fft // 2:
            raise ValueError(
                f"hop = {self.hop} leaves gaps between frames of n_fft = {self.n_fft}: "
                f"hop may be at most {self.n_fft // 2}"
            )
        if self.samples < self.n_fft:
            raise ValueError(
                f"seconds = {self.seconds:g} at sample_rate = {self.sample_rate} is "
                f"{self.samples} samples, less than n_fft = {self.n_fft}: raise seconds, or lower "
                "n_fft"
            )
        # Width in Hz of the lowest and narrowest mel filter (HTK scale).
        highest_mel = 2595 * math.log10(1 + self.sample_rate / 2 / 700)
        lowest_width = 700 * (10 ** (2 * highest_mel / (self.mels + 1) / 2595) - 1)
        if lowest_width <= self.sample_rate / self.n_fft:
            # The smallest power of two whose frequency bins are narrower than that band.
            n_fft = 2 ** math.floor(math.log2(self.sample_rate / lowest_width) + 1)
            raise ValueError(
                f"mels = {self.mels} is more than n_fft = {self.n_fft} resolves: the lowest bands "
                f"would be empty; lower mels, or raise n_fft to {n_fft}"
            )
        return self
