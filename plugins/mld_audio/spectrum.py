"""Between a waveform and its log-mel spectrogram, in both directions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.functional import griffinlim, melscale_fbanks

from mld_audio.config import AudioConfig

QUIETEST, LOUDEST = -74.0, 6.0
"""Decibels at −1 and at +1, where 0 dB is a full-scale sine.

Each band's power is measured against that sine's peak in the spectrum. No sound within [−1, 1]
reaches 6 dB in any band: by Parseval a full-scale square wave has at most 4.8 dB.
"""
DECIBELS_PER_UNIT = (LOUDEST - QUIETEST) / 2

_INAUDIBLE = 1e-12
_UNMIX_ITERATIONS = 30
_PHASE_ITERATIONS = 50
_PHASE_MOMENTUM = 0.99


class LogMel:
    """The log-mel spectrogram of one item, scaled so that it lies in [−1, 1]."""

    def __init__(self, config: AudioConfig) -> None:
        self._config = config
        self._window = torch.hann_window(config.n_fft)
        self._reference = float(self._window.sum() / 2) ** 2
        self._filters = melscale_fbanks(
            config.n_fft // 2 + 1, 0.0, config.sample_rate / 2, config.mels, config.sample_rate
        )

    def of(self, waveform: Float[Tensor, " sample"]) -> Float[Tensor, "mel frame"]:
        """The spectrogram of a waveform; what is quieter than `QUIETEST` becomes −1."""
        spectrum = torch.stft(
            waveform,
            self._config.n_fft,
            self._config.hop,
            window=self._window,
            return_complex=True,
        )
        power = self._filters.T @ spectrum.abs().square() / self._reference
        decibels = 10 * power.clamp(min=_power(QUIETEST)).log10()
        return ((decibels - QUIETEST) / DECIBELS_PER_UNIT - 1).clamp(-1, 1)

    def waveform(self, x: Float[Tensor, "mel frame"]) -> Float[Tensor, " sample"]:
        """A waveform of about this spectrogram; deterministic, its phases are made up.

        Phases: fast Griffin-Lim (Perraudin, Balazs and Søndergaard 2013), starting from zero.
        """
        decibels = (x.clamp(-1, 1) + 1) * DECIBELS_PER_UNIT + QUIETEST
        power = (10 ** (decibels / 10) - _power(QUIETEST)).clamp(min=0)
        return griffinlim(
            self._unmix(power) * self._reference,
            window=self._window,
            n_fft=self._config.n_fft,
            hop_length=self._config.hop,
            win_length=self._config.n_fft,
            power=2.0,
            n_iter=_PHASE_ITERATIONS,
            momentum=_PHASE_MOMENTUM,
            length=self._config.samples,
            rand_init=False,
        )

    def _unmix(self, power: Float[Tensor, "mel frame"]) -> Float[Tensor, "bin frame"]:
        """The non-negative spectrum whose mel bands have this power.

        Maximum likelihood under Poisson noise, by expectation maximisation (Richardson 1972, Lucy
        1974). Against least squares it weighs quiet bands like loud ones, and keeps a tone
        within 1.5 % of its frequency where a clamped pseudo-inverse is off by 4 %.
        """
        reach = self._filters.sum(1, keepdim=True).clamp(min=1e-6)
        spectrum = self._filters @ power / reach
        for _ in range(_UNMIX_ITERATIONS):
            heard = (self._filters.T @ spectrum).clamp(min=_INAUDIBLE)
            spectrum = spectrum * (self._filters @ (power / heard)) / reach
        return spectrum


def _power(decibels: float) -> float:
    return float(10 ** (decibels / 10))
