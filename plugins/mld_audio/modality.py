"""The audio modality."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from pydantic import JsonValue
from torch import Generator, Tensor
from torchaudio.functional import resample

from mld_audio import example_tones
from mld_audio.augment import varied
from mld_audio.config import AudioConfig
from mld_audio.metrics import log_spectral_distance
from mld_audio.networks import AudioAutoencoder, AudioClassifier
from mld_audio.spectrogram_image import spectrogram_picture
from mld_audio.spectrum import LogMel
from mld_core import Metric, Modality, SplitName

Sound = tuple[np.ndarray, int]
"""A mono waveform and its sample rate."""

_SPLITS: Sequence[SplitName] = ("train", "validation", "test")
_LOUDEST_SAMPLE = 2.0


class Audio(Modality):
    """Sounds of a fixed length, such as tones, spoken words or calls of birds.

    raw is a pair: the waveform, a float32 numpy array of shape (samples,) within [−1, 1], and its
    sample rate in Hz. Any rate, any length up to `seconds`.

    x is the log-mel spectrogram, float32 (mels, frames), pitch upwards: −1 is 74 dB below a
    full-scale sine or quieter, +1 is 6 dB above it, louder than any sound can be.
    """

    kind = "audio"
    Config = AudioConfig
    config: AudioConfig

    def __init__(self, config: AudioConfig, facts: Mapping[str, JsonValue] | None = None) -> None:
        super().__init__(config, facts)
        self._log_mel = LogMel(config)

    def read(self, source: Path | str) -> Sound:
        """The sound of any file that libsndfile reads (WAV, FLAC, OGG, MP3), mixed to mono."""
        with open(source, "rb") as file:
            _refuse_truncated(file)
            try:
                channels, sample_rate = soundfile.read(file, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise ValueError(f"not a readable sound file: {error.error_string}") from error
        return channels.mean(axis=1), sample_rate

    def preprocess(self, raw: Sound) -> Float[Tensor, "mel frame"]:
        """The log-mel spectrogram of a sound, at the config's rate and length."""
        waveform, sample_rate = raw
        waveform = self._fitting(_checked(waveform), sample_rate)
        at_rate = resample(torch.from_numpy(waveform), sample_rate, self.config.sample_rate)
        item = torch.zeros(self.config.samples)
        heard = at_rate[: self.config.samples]
        item[: len(heard)] = heard
        return self._log_mel.of(item)

    def _fitting(self, waveform: np.ndarray, sample_rate: int) -> np.ndarray:
        room = round(self.config.seconds * sample_rate)
        if len(waveform) > room and self.config.too_long == "error":
            length = len(waveform) / sample_rate
            raise ValueError(
                f"lasts {length:.3f} s, longer than seconds = {self.config.seconds:g}: "
                f"raise seconds, or set too_long: cut"
            )
        return waveform[:room]

    def augment(
        self, x: Float[Tensor, "batch mel frame"], generator: Generator
    ) -> Float[Tensor, "batch mel frame"]:
        """Small shifts in time, changes of loudness, noise, and a short gap; the pitch stays."""
        return varied(x, generator)

    def autoencoder(self) -> AudioAutoencoder:
        """A fresh convolutional autoencoder."""
        return AudioAutoencoder(self.config)

    def classifier(self, classes: int) -> AudioClassifier:
        """A fresh convolutional classifier."""
        return AudioClassifier(self.config, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """The log-spectral distance of reconstructions from their originals."""
        return {
            "log_spectral_distance": Metric(
                log_spectral_distance, against="originals", better="lower", best=0.0, unit="dB"
            )
        }

    def write(self, x: Float[Tensor, "mel frame"], stem: Path) -> Path:
        """Write the sound as a mono WAV of 16 bits."""
        waveform = self._log_mel.waveform(x.detach().float().cpu()).numpy()
        path = stem.with_name(stem.name + ".wav")
        soundfile.write(path, waveform.clip(-1, 1), self.config.sample_rate, subtype="PCM_16")
        return path

    def preview(self, x: Float[Tensor, "mel frame"], stem: Path) -> list[Path]:
        """Draw the spectrogram."""
        path = stem.with_name(stem.name + ".png")
        spectrogram_picture(x.detach()).save(path)
        return [path]

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Sound]:
        """The telephone keypad's tones of these digits, at 8 kHz, as long as an item.

        The split joins the rng in the seed, so that even equal states serve no sound twice.
        """
        own = np.random.default_rng([_SPLITS.index(split), *rng.integers(2**32, size=4)])
        return [
            (
                example_tones.press_key(int(digit), self.config.seconds, own),
                example_tones.SAMPLE_RATE,
            )
            for digit in labels
        ]


def _refuse_truncated(file: BinaryIO) -> None:
    """ValueError if a WAV ends before its header says: libsndfile would read it as a short one."""
    header = file.read(8)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    promised = int.from_bytes(header[4:], "little")
    # A writer into a pipe cannot know the size and leaves all ones; some forget the padding byte.
    if header.startswith(b"RIFF") and promised < 0xFFFFFFFF and size < promised + 7:
        raise ValueError(f"the WAV file is cut short: {size} bytes of {promised + 8}")


def _checked(waveform: Any) -> np.ndarray:
    """A waveform as contiguous float32. ValueError says what is wrong with it."""
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"a waveform is one row of floats, not {waveform.dtype} of shape {waveform.shape}"
        )
    if waveform.size == 0:
        raise ValueError("the sound is empty: it has no samples")
    peak = np.abs(waveform).max()
    if not peak <= _LOUDEST_SAMPLE:
        raise ValueError(f"samples reach {peak:g}, and full scale is 1")
    return np.ascontiguousarray(waveform, dtype=np.float32)
