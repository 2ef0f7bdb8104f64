"""The modality `pretrained-audio`: sounds with a codec of the library transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, JsonValue
from torch import Tensor
from torch.nn.functional import pad

from mld_audio import Audio, AudioConfig
from mld_core import (
    Classifier,
    Metric,
    Modality,
    ModalityConfig,
    SpecError,
    hookimpl,
    require_library,
)
from mld_pretrained.config import PretrainedConfig
from mld_pretrained.modality import (
    PretrainedAutoencoder,
    PretrainedModality,
    Shape,
    laplace_loss,
)
from mld_pretrained.weights import TRANSFORMERS_FILES, PretrainedFiles, find_files

require_library("transformers")

Waveforms = Float[Tensor, "batch sample"]
Spectrograms = Float[Tensor, "batch mel frame"]
Sequences = Float[Tensor, "batch position channel"]

CODECS = ("encodec", "dac")
"""Model types of transformers whose `encoder` and `decoder` are inverse to each other."""
UNFITTED_RATE = 16000
N_FFT, HOP = 1024, 256
"""Samples in a frame, and between two, of the spectrograms by which sounds are judged."""


class PretrainedAudioConfig(PretrainedConfig):
    """Settings of the modality `pretrained-audio`."""

    seconds: float = Field(
        2.0, gt=0, le=60, description="length in seconds; shorter sounds are padded with silence"
    )
    too_long: Literal["error", "truncate"] = Field(
        "error",
        description="what to do with a sound longer than `seconds`: truncate keeps its beginning",
    )


class CodecAutoencoder(PretrainedAutoencoder):
    """The encoder and the decoder of a neural codec, without its quantiser.

    The decoder has learnt to decode quantised latents, which lie around the continuous ones; these
    lose nothing to the code book, and change continuously with the sound.
    """

    def __init__(self, files: PretrainedFiles, latent_shape: Shape = (), samples: int = 0) -> None:
        from transformers import AutoModel

        super().__init__(
            files.load(AutoModel.from_pretrained, use_safetensors=True),
            files.reference(),
            latent_shape,
        )
        self.samples = samples

    def latents(self, x: Waveforms) -> Sequences:
        """A position for each hop of the codec; the last one may be partly silence."""
        filled = pad(x, (0, -x.shape[1] % self.model.config.hop_length))
        z: Tensor = self.model.encoder(filled[:, None])
        return z.mT

    def items(self, z: Sequences) -> Waveforms:
        """The waveform of each sequence, within [−1, 1]."""
        return self._decoded(z).clamp(-1, 1)

    def loss(self, z: Float[Tensor, "batch latent"], x: Waveforms) -> Float[Tensor, " batch"]:
        """−log Laplace(x | decode(z), 0.05) per waveform, without its constant."""
        return laplace_loss(self._decoded(z.unflatten(1, self.latent_shape)), x)

    def _decoded(self, z: Sequences) -> Waveforms:
        decoded: Tensor = self.model.decoder(z.mT)[:, 0].float()
        return pad(decoded, (0, self.samples - decoded.shape[1]))


class WaveformClassifier(Classifier):
    """The classifier of the kind `audio`, on spectrograms of waveforms."""

    def __init__(self, base: Audio, classes: int) -> None:
        super().__init__()
        self.base = base
        self.classifier = base.classifier(classes)

    def features(self, x: Waveforms) -> Float[Tensor, "batch feature"]:
        """Those of the spectrograms."""
        return self.classifier.features(self._spectrograms(x))

    def forward(self, x: Waveforms) -> Float[Tensor, "batch classes"]:
        """The logits of each waveform."""
        logits: Tensor = self.classifier(self._spectrograms(x))
        return logits

    def _spectrograms(self, x: Waveforms) -> Spectrograms:
        """In double precision, which autocast leaves alone: quiet bands are powers of 1e-7."""
        return self.base.spectrogram(x.double()).float()


class PretrainedAudio(PretrainedModality):
    """Sounds of a fixed length, with a pretrained neural codec of transformers.

    `raw` is that of the kind `audio`. An item is the waveform, a float32 tensor of shape
    (samples,), at the sample rate of the codec. The latent is a sequence (positions, channels):
    what the encoder of an EnCodec or DAC for mono sound gives before it is quantised.
    """

    kind = "pretrained-audio"
    Config = PretrainedAudioConfig
    config: PretrainedAudioConfig
    base: Audio

    def base_modality(self) -> Audio:
        """The kind `audio` of the same length; before fitting only its `read` may be used."""
        settings = {
            "sample_rate": self.facts.get("sample_rate", UNFITTED_RATE),
            "seconds": self.config.seconds,
            "too_long": self.config.too_long,
            "n_fft": N_FFT,
            "hop": HOP,
        }
        return Audio(AudioConfig.model_validate(settings))

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """Sample rate of the codec, and shape of the latent. SpecError if it is not for mono."""
        assert isinstance(config, PretrainedAudioConfig)
        autoencoder = CodecAutoencoder(find_files(config, TRANSFORMERS_FILES))
        codec = autoencoder.model.config
        if codec.model_type not in CODECS:
            kinds = " or ".join(CODECS)
            raise SpecError(f"weights: the model is {codec.model_type}, but must be {kinds}")
        if getattr(codec, "audio_channels", 1) != 1 or getattr(codec, "normalize", False):
            raise SpecError(
                "weights: the codec is for stereo or normalised sound; choose one for mono, such "
                "as EnCodec at 24 kHz"
            )
        samples = round(config.seconds * codec.sampling_rate)
        with torch.no_grad():
            z = autoencoder.latents(torch.zeros(1, samples))
        return {"sample_rate": codec.sampling_rate, "latent_shape": [*z.shape[1:]]}

    def autoencoder(self) -> CodecAutoencoder:
        """The pretrained codec."""
        files = find_files(self.config, TRANSFORMERS_FILES)
        return CodecAutoencoder(files, self.latent_shape, self.base.config.samples)

    def preprocess(self, raw: Any) -> Float[Tensor, " sample"]:
        """The waveform at the codec's rate, padded with silence."""
        return self.base.waveform(raw)

    def pack(self, x: Waveforms) -> Waveforms:
        """Unchanged."""
        return x

    def unpack(self, packed: Waveforms) -> Waveforms:
        """Unchanged."""
        return packed

    def classifier(self, classes: int) -> WaveformClassifier:
        """The classifier of the kind `audio`, on spectrograms."""
        return WaveformClassifier(self.base, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Those of the kind `audio`, on spectrograms."""
        return {name: self._of_waveforms(metric) for name, metric in self.base.metrics().items()}

    def _of_waveforms(self, metric: Metric) -> Metric:
        def measure(items: Tensor, reference: Tensor) -> float:
            if not len(items) or not len(reference):
                raise ValueError("there are no sounds to measure")
            return metric.measure(self.base.spectrogram(items), self.base.spectrogram(reference))

        return replace(metric, measure=measure)

    def write(self, x: Float[Tensor, " sample"], stem: Path) -> Path:
        """Write a mono WAV file of 16 bits."""
        return self.base.write_waveform(x, stem)

    def preview(self, x: Float[Tensor, " sample"], stem: Path) -> list[Path]:
        """Draw the spectrogram as a PNG file."""
        return self.base.preview(self.base.spectrogram(x), stem)


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [PretrainedAudio]
