"""What a spec may say about a sound."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from mld_core import ModalityConfig


class AudioConfig(ModalityConfig):
    """How long a sound is, and how finely its spectrogram resolves time and frequency.

    The defaults suit half a second of telephone sound: 64 bands by 32 frames, and tones 73 Hz
    apart stay two tones. For speech at 16 kHz, sample_rate 16000 with n_fft 1024 and hop 256 is
    the same picture with twice the bandwidth.
    """

    sample_rate: int = Field(
        default=8000,
        ge=4000,
        le=192_000,
        description="samples per second of an item; other rates are resampled",
    )
    seconds: float = Field(
        default=0.5, gt=0, le=60, description="length of an item; a shorter sound ends in silence"
    )
    too_long: Literal["error", "cut"] = Field(
        default="error", description="a sound longer than `seconds` is an error, or loses its end"
    )
    mels: int = Field(default=64, ge=16, le=256, description="bands of the mel spectrogram")
    n_fft: int = Field(
        default=512, ge=64, le=8192, description="samples that one frame of the spectrogram sees"
    )
    hop: int = Field(default=128, ge=16, le=4096, description="samples from one frame to the next")
    width: int = Field(
        default=48, ge=16, le=1024, multiple_of=8, description="channels of the networks"
    )

    @property
    def samples(self) -> int:
        """Length of an item in samples."""
        return round(self.seconds * self.sample_rate)

    @property
    def frames(self) -> int:
        """Length of an item in frames; the first is centred on the first sample."""
        return 1 + self.samples // self.hop

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.hop > self.n_fft // 2:
            raise ValueError(
                f"hop = {self.hop} leaves gaps between frames of n_fft = {self.n_fft}: "
                f"hop may be {self.n_fft // 2} at most"
            )
        if self.samples < self.n_fft:
            raise ValueError(
                f"seconds = {self.seconds:g} at sample_rate = {self.sample_rate} is "
                f"{self.samples} samples, less than n_fft = {self.n_fft}"
            )
        lowest = _lowest_band(self.mels, self.sample_rate)
        if lowest <= self.sample_rate / self.n_fft:
            raise ValueError(
                f"mels = {self.mels} is more than n_fft = {self.n_fft} resolves: its lowest bands "
                f"would be empty; lower mels, or raise n_fft to {_next_power(self, lowest)}"
            )
        return self


def _lowest_band(mels: int, sample_rate: int) -> float:
    """Width in Hz of the lowest, narrowest triangle of the mel filters (the HTK scale)."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    return float(700 * (10 ** (2 * highest / (mels + 1) / 2595) - 1))


def _next_power(config: AudioConfig, width: float) -> int:
    return 2 ** math.floor(math.log2(config.sample_rate / width) + 1)
