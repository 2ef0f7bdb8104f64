"""The autoencoder and the classifier of log-mel spectrograms.

Both convolve along time and take the mel bands as channels: a pattern may come sooner or later,
but not higher or lower, for pitch is what tells sounds apart.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from mld_audio.config import AudioConfig
from mld_audio.spectrum import DECIBELS_PER_UNIT
from mld_core import Autoencoder, Classifier

PATCH = 4
"""Frames that the first layer joins into one."""
FEATURES = 64
"""Width of the classifier's features."""
BLUR = 0.1
"""Standard deviation of the noise on a latent in training, whose coordinates are of order one."""
SCATTER = 5.57 / DECIBELS_PER_UNIT
"""Standard deviation of an item about its reconstruction, which `loss` assumes.

5.57 dB is that of the log power of white noise in one bin: no latent could tell it.
"""


class AudioAutoencoder(Autoencoder):
    """A small convolutional autoencoder whose latents fill a ball.

    In training noise blurs each latent. As the ball bounds them, the encoder cannot outgrow the
    noise, and must keep unlike sounds apart and like ones together: so a latent that is slightly
    off, as diffusion makes them, still decodes to the same sound.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self._frames = config.frames
        patches = math.ceil(config.frames / PATCH)
        width = config.width
        self._encoder = nn.Sequential(
            *_trunk(config.mels, width), nn.Flatten(), nn.Linear(width * patches, config.latent_dim)
        )
        self._decoder = nn.Sequential(
            nn.Linear(config.latent_dim, width * patches),
            nn.Unflatten(1, (width, patches)),
            *_activated(width),
            nn.Conv1d(width, width, 3, padding=1),
            *_activated(width),
            nn.ConvTranspose1d(width, config.mels, PATCH, stride=PATCH),
        )

    def encode(self, x: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch latent"]:
        """The latent of each item, inside the ball of radius √latent; blurred in training."""
        z = self._encoder(_whole_patches(x)).float()
        z = z * (1 + z.square().mean(1, keepdim=True)).rsqrt()
        return z + BLUR * torch.randn_like(z) if self.training else z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch mel frame"]:
        """The log-mel spectrogram of each latent, within [−1, 1]."""
        return self._render(z).clamp(-1, 1)

    def loss(
        self, z: Float[Tensor, "batch latent"], x: Float[Tensor, "batch mel frame"]
    ) -> Float[Tensor, " batch"]:
        """−log p(x | z) of a Gaussian about the rendered spectrogram, up to a constant.

        Not clamped as `decode` is: beyond the range a gradient still leads back.
        """
        squares = mse_loss(self._render(z), x, reduction="none")
        return squares.sum((1, 2)) / (2 * SCATTER**2)

    def _render(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch mel frame"]:
        return self._decoder(z)[..., : self._frames].float()


class AudioClassifier(Classifier):
    """A small convolutional classifier."""

    def __init__(self, config: AudioConfig, classes: int) -> None:
        super().__init__()
        patches = math.ceil(config.frames / PATCH)
        self._body = nn.Sequential(
            *_trunk(config.mels, config.width),
            nn.Flatten(),
            nn.Linear(config.width * patches, FEATURES),
            nn.SiLU(),
        )
        self._head = nn.Linear(FEATURES, classes)

    def features(self, x: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch feature"]:
        """The 64 activations before the last layer."""
        return self._body(_whole_patches(x)).float()

    def forward(self, x: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch classes"]:
        """The logits of each item."""
        return self._head(self.features(x)).float()


def _trunk(mels: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv1d(mels, width, PATCH, stride=PATCH),
        *_activated(width),
        nn.Conv1d(width, width, 3, padding=1),
        *_activated(width),
    ]


def _activated(width: int) -> list[nn.Module]:
    return [nn.GroupNorm(8, width), nn.SiLU()]


def _whole_patches(x: Float[Tensor, "batch mel frame"]) -> Float[Tensor, "batch mel padded"]:
    """The items, with silence to the end of the last patch."""
    return pad(x, (0, -x.shape[-1] % PATCH), value=-1.0)
