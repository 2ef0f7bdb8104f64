"""The modality `audio`."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image
from pydantic import JsonValue
from torch import Tensor
from torch.nn.functional import pad

from mld_audio.augment import augment_spectrogram
from mld_audio.config import AudioConfig
from mld_audio.example_tones import sample_tones
from mld_audio.metrics import log_spectral_distance
from mld_audio.networks import AudioAutoencoder, AudioClassifier
from mld_audio.resampling import resample
from mld_audio.sequence_networks import SequenceAudioAutoencoder
from mld_audio.spectrum import LogMel, Spectrogram, Spectrograms, Waveform
from mld_core import Autoencoder, LimitError, MediaType, Metric, Modality, SplitName

Sound = tuple[np.ndarray, int]
"""A mono waveform and its sample rate in Hz."""

MAX_AMPLITUDE = 2.0
"""Largest absolute sample accepted, with some tolerance above the full scale of 1."""

_COLOURS = np.array(
    [(8, 10, 28), (38, 28, 94), (18, 98, 134), (34, 166, 128), (246, 196, 84), (255, 250, 226)]
)
"""Colour map from silence to the loudest: dark blue, indigo, teal, green, amber, cream."""


class Audio(Modality):
    """Sounds of a fixed length, such as tones, spoken words or bird calls.

    `raw` is a pair: the waveform, a float32 array of shape (samples,) within [−1, 1], and its
    sample rate in Hz. Any rate is resampled, and any length up to `seconds` is padded.

    An item is the log-mel spectrogram, a float32 tensor of shape (mels, frames), low pitch first,
    with values in [−1, 1]: −1 is 74 dB below a full-scale sine or quieter, and +1 is 6 dB above it,
    louder than any sound can be. The latent, of shape (latent_dim,), lies in the ball of radius
    √latent_dim; or with `latent` it is a sequence of shape (frames / latent.downsampling rounded
    up, latent.channels), each position on a sphere.
    """

    kind = "audio"
    Config = AudioConfig
    media_type: MediaType = "sound"
    config: AudioConfig

    def __init__(self, config: AudioConfig, facts: Mapping[str, JsonValue] | None = None) -> None:
        super().__init__(config, facts)
        self._log_mel = LogMel(config)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,) of a vector, or (positions, channels) of a sequence."""
        latent = self.config.latent
        if latent is None:
            return super().latent_shape
        return (math.ceil(self.config.frames / latent.downsampling), latent.channels)

    def read(self, source: Path | str) -> Sound:
        """The sound of any file that libsndfile reads (WAV, FLAC, OGG, MP3), mixed to mono.

        Of a longer file no more than an item's length is read.
        """
        with _SoundBytes(source) as file:
            _check_not_truncated(file)
            try:
                with soundfile.SoundFile(file) as sound:
                    max_samples = self._max_samples(sound.frames, sound.samplerate)
                    channels = sound.read(max_samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise ValueError(f"not a readable sound file: {error.error_string}") from error
        return channels.mean(axis=1), sound.samplerate

    def profile(self, raw: Sound) -> Mapping[str, int | float]:
        """Its length, at most that of an item, and sample rate."""
        waveform, sample_rate = raw
        return {"seconds": len(waveform) / sample_rate, "sample rate": sample_rate}

    def preprocess(self, raw: Sound) -> Spectrogram:
        """The log-mel spectrogram of a sound, at the config's rate and length."""
        return self.spectrogram(self.waveform(raw))

    def waveform(self, raw: Sound) -> Waveform:
        """A sound at the config's rate and length, padded with silence."""
        waveform, sample_rate = raw
        waveform = _validate_waveform(waveform)
        limited = torch.from_numpy(waveform[: self._max_samples(len(waveform), sample_rate)])
        resampled = resample(limited, sample_rate, self.config.sample_rate)[: self.config.samples]
        return pad(resampled, (0, self.config.samples - len(resampled)))

    def spectrogram(self, waveform: Float[Tensor, "*batch sample"]) -> Tensor:
        """The items of waveforms, "*batch mel frame"."""
        return self._log_mel.spectrogram(waveform)

    def _max_samples(self, samples: int, sample_rate: int) -> int:
        """The samples of an item at a sound's rate. ValueError if it has more and may not."""
        max_samples = max(1, round(self.config.seconds * sample_rate))
        if samples > max_samples and self.config.too_long == "error":
            raise LimitError(
                f"the sound lasts {samples / sample_rate:.3f} s, longer than "
                f"seconds = {self.config.seconds:g}: raise seconds, at the cost of every item, or "
                "set too_long: truncate",
                "seconds",
                math.ceil(1000 * samples / sample_rate) / 1000,
            )
        return max_samples

    def augment(self, x: Spectrograms, generator: torch.Generator) -> Spectrograms:
        """Small random shifts in time, changes of loudness, noise, and a gap; not of pitch."""
        return augment_spectrogram(x, generator)

    def autoencoder(self) -> Autoencoder:
        """A new convolutional autoencoder."""
        if self.config.latent is None:
            return AudioAutoencoder(self.config, self.latent_dim)
        return SequenceAudioAutoencoder(self.config, self.config.latent)

    def classifier(self, classes: int) -> AudioClassifier:
        """A new convolutional classifier with 64 features."""
        return AudioClassifier(self.config, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Log-spectral distance of reconstructions and conditional samples."""
        metric = Metric(log_spectral_distance, "truth", "lower", best=0.0, unit="dB")
        return {"log_spectral_distance": metric}

    def write(self, x: Spectrogram, stem: Path) -> Path:
        """Write a mono WAV file of 16 bits; phases are estimated from the spectrogram."""
        return self.write_waveform(self._log_mel.waveform(x.detach().float().cpu()), stem)

    def write_waveform(self, waveform: Waveform, stem: Path) -> Path:
        """Write a waveform at the config's rate, clipped to [−1, 1], as such a file."""
        path, samples = stem.with_name(stem.name + ".wav"), waveform.detach().float().cpu().numpy()
        soundfile.write(path, samples.clip(-1, 1), self.config.sample_rate, subtype="PCM_16")
        return path

    def preview(self, x: Spectrogram, stem: Path) -> list[Path]:
        """Draw the spectrogram as a PNG file.

        Time runs from left to right, pitch from bottom to top; loudness is brightness.
        """
        bands = np.ascontiguousarray(x.detach().float().cpu().numpy()[::-1])
        resized = np.asarray(Image.fromarray(bands).resize((256, 144), Image.Resampling.BICUBIC))
        image = Image.fromarray(((resized.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8))
        stops = np.arange(len(_COLOURS))
        levels = np.linspace(0, stops[-1], 256)
        channels = [np.interp(levels, stops, channel) for channel in _COLOURS.T]
        image.putpalette(np.stack(channels, axis=1).round().astype(int).flatten().tolist())
        path = stem.with_name(stem.name + ".png")
        image.save(path)
        return [path]

    def examples(self, labels: Sequence[int], split: SplitName, rng: Generator) -> list[Sound]:
        """Telephone keypad tones of the digits, at 8 kHz, as long as an item."""
        return sample_tones(labels, split, self.config.seconds, rng)


class _SoundBytes(io.FileIO):
    """A file that stays where it is when asked for a position that it cannot have.

    Damaged headers make libsndfile ask for some, in a callback that must not raise.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The position after the attempt."""
        with suppress(OSError):
            return super().seek(offset, whence)
        return self.tell()


def _check_not_truncated(file: io.FileIO) -> None:
    """Raise ValueError if a WAV file is shorter than its header says; libsndfile accepts it."""
    header = file.read(8)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    riff_size = int.from_bytes(header[4:], "little")
    # A writer into a pipe cannot know the size and leaves all ones; some omit the padding byte.
    if header.startswith(b"RIFF") and riff_size < 0xFFFFFFFF and size < riff_size + 7:
        raise ValueError(f"the WAV file is truncated: it has {size} of {riff_size + 8} bytes")


def _validate_waveform(waveform: Any) -> np.ndarray:
    """A waveform as contiguous float32; ValueError if it is not a one-dimensional float array."""
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            "expected the waveform as a one-dimensional array of floats, "
            f"got {waveform.dtype} of shape {waveform.shape}"
        )
    if waveform.size == 0:
        raise ValueError("the sound is empty: it has no samples")
    peak = np.abs(waveform).max()
    # Written so that NaN fails too.
    if not peak <= MAX_AMPLITUDE:
        raise ValueError(
            f"samples reach {peak:g}, but full scale is 1: scale the waveform to [−1, 1]"
        )
    return np.ascontiguousarray(waveform, dtype=np.float32)
