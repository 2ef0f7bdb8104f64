"""The autoencoder of spectrograms with a latent vector, and the classifier.

Both convolve over time and take mel bands as channels, so they are equivariant to shifts in time
but not in pitch: pitch is what distinguishes sounds.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from mld_audio.config import AudioConfig
from mld_audio.spectrum import DECIBELS_PER_UNIT, Spectrograms
from mld_core import Autoencoder, Classifier

Latents = Float[Tensor, "batch latent"]

PATCH = 4
"""Frames that the first layer joins into one."""
FEATURE_DIM = 64
"""Width of the classifier's features."""
LATENT_NOISE_STD = 0.1
"""Standard deviation of the noise on latents in training; their coordinates are of order one."""
ITEM_STD = 5.57 / DECIBELS_PER_UNIT
"""Standard deviation of an item around its reconstruction, which `loss` assumes.

5.57 dB is the standard deviation of the log power of white noise in one bin, which no latent could
predict.
"""


class AudioAutoencoder(Autoencoder):
    """A small convolutional autoencoder with latents in a ball and Gaussian noise on them.

    Noise is added to latents in training. Because the ball bounds the latents, the encoder cannot
    make the noise negligible by scaling them up; it must place similar sounds near each other and
    different sounds apart. A latent that is slightly off, as diffusion produces, then still decodes
    to the same sound.
    """

    def __init__(self, config: AudioConfig, latent_dim: int) -> None:
        super().__init__()
        self._frames = config.frames
        patches, width = math.ceil(config.frames / PATCH), config.width
        self._encoder = nn.Sequential(*_encoder_layers(config, latent_dim))
        self._decoder = nn.Sequential(
            nn.Linear(latent_dim, width * patches),
            nn.Unflatten(1, (width, patches)),
            *norm_act(width),
            nn.Conv1d(width, width, 3, padding=1),
            *norm_act(width),
            nn.ConvTranspose1d(width, config.mels, PATCH, stride=PATCH),
        )

    def encode(self, x: Spectrograms) -> Latents:
        """The latent of each item, inside the ball of radius √latent; noisy in training."""
        z: Tensor = self._encoder(pad_with_silence(x, PATCH)).float()
        z = z * (1 + z.square().mean(1, keepdim=True)).rsqrt()
        return z + LATENT_NOISE_STD * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Spectrograms:
        """The log-mel spectrogram of each latent, clamped to [−1, 1]."""
        return self._decode_unclamped(z).clamp(-1, 1)

    def loss(self, z: Latents, x: Spectrograms) -> Float[Tensor, " batch"]:
        """−log p(x | z) of a Gaussian around the unclamped spectrogram, up to a constant.

        Unclamped, so that values outside the range still have a gradient.
        """
        return gaussian_nll(self._decode_unclamped(z), x)

    def _decode_unclamped(self, z: Latents) -> Spectrograms:
        spectrogram: Tensor = self._decoder(z)
        return spectrogram[..., : self._frames].float()


class AudioClassifier(Classifier):
    """A small convolutional classifier."""

    def __init__(self, config: AudioConfig, classes: int) -> None:
        super().__init__()
        self._body = nn.Sequential(*_encoder_layers(config, FEATURE_DIM), nn.SiLU())
        self._head = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Spectrograms) -> Float[Tensor, "batch feature"]:
        """The 64 activations before the last layer."""
        features: Tensor = self._body(pad_with_silence(x, PATCH))
        return features.float()

    def forward(self, x: Spectrograms) -> Float[Tensor, "batch classes"]:
        """The logits of each item."""
        logits: Tensor = self._head(self.features(x))
        return logits.float()


def _encoder_layers(config: AudioConfig, out: int) -> list[nn.Module]:
    patches, width = math.ceil(config.frames / PATCH), config.width
    return [
        nn.Conv1d(config.mels, width, PATCH, stride=PATCH),
        *norm_act(width),
        nn.Conv1d(width, width, 3, padding=1),
        *norm_act(width),
        nn.Flatten(),
        nn.Linear(width * patches, out),
    ]


def gaussian_nll(mean: Spectrograms, x: Spectrograms) -> Float[Tensor, " batch"]:
    """−log p of items with the standard deviation `ITEM_STD` around a mean, up to a constant."""
    return mse_loss(mean, x, reduction="none").sum((1, 2)) / (2 * ITEM_STD**2)


def norm_act(width: int) -> list[nn.Module]:
    """Group normalisation with 8 groups, and SiLU."""
    return [nn.GroupNorm(8, width), nn.SiLU()]


def pad_with_silence(x: Spectrograms, multiple: int) -> Float[Tensor, "batch mel padded"]:
    """Items padded at their end to a multiple of some number of frames."""
    return pad(x, (0, -x.shape[-1] % multiple), value=-1.0)
