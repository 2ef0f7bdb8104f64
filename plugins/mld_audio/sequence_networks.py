"""The autoencoder of spectrograms whose latent is a sequence: residual convolutions over time.

Mel bands are channels, so it is equivariant to shifts in time but not in pitch. Each position of
the sequence is a point on a sphere, which describes a few frames and those around them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from mld_audio.config import AudioConfig, SequenceLatent
from mld_audio.networks import Latents, gaussian_nll, norm_act, pad_with_silence
from mld_audio.spectrum import Spectrograms
from mld_core import Autoencoder

LATENT_NOISE_STD = 0.2
"""Standard deviation of the noise on latents in training; each position has root mean square 1."""

Hidden = Float[Tensor, "batch channel frame"]


class SequenceAudioAutoencoder(Autoencoder):
    """Residual convolutional autoencoder whose latent is a sequence of points on spheres.

    The channels of a position have a root mean square of 1. Gaussian noise is added to latents in
    training, so that a sequence that is slightly off, as diffusion produces, decodes to about the
    same sound. Feature maps have 2 × `config.width` channels at the resolution of frames, and
    twice as many at that of the latent.
    """

    def __init__(self, config: AudioConfig, latent: SequenceLatent) -> None:
        super().__init__()
        self._frames, self._latent = config.frames, latent
        fine, coarse, stride = 2 * config.width, 4 * config.width, latent.downsampling
        self._encoder = nn.Sequential(
            nn.Conv1d(config.mels, fine, 3, padding=1),
            _ResidualBlock(fine),
            *norm_act(fine),
            nn.Conv1d(fine, coarse, stride, stride),
            _ResidualBlock(coarse),
            *norm_act(coarse),
            nn.Conv1d(coarse, latent.channels, 1),
        )
        self._decoder = nn.Sequential(
            nn.Conv1d(latent.channels, coarse, 3, padding=1),
            _ResidualBlock(coarse),
            *norm_act(coarse),
            nn.ConvTranspose1d(coarse, fine, stride, stride),
            _ResidualBlock(fine),
            *norm_act(fine),
            nn.Conv1d(fine, config.mels, 3, padding=1),
        )

    def encode(self, x: Spectrograms) -> Latents:
        """The sequence of each item, flattened; noisy in training mode."""
        hidden: Tensor = self._encoder(pad_with_silence(x, self._latent.downsampling))
        z = self._project_to_spheres(hidden.mT).flatten(1)
        return z + LATENT_NOISE_STD * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Spectrograms:
        """The log-mel spectrogram of each latent, clamped to [−1, 1]."""
        return self._decode_unclamped(z).clamp(-1, 1)

    def loss(self, z: Latents, x: Spectrograms) -> Float[Tensor, " batch"]:
        """−log p(x | z) of a Gaussian around the unclamped spectrogram, up to a constant."""
        return gaussian_nll(self._decode_unclamped(z), x)

    def _decode_unclamped(self, z: Latents) -> Spectrograms:
        sequence = self._project_to_spheres(z.unflatten(1, (-1, self._latent.channels)))
        spectrogram: Tensor = self._decoder(sequence.mT)
        return spectrogram[..., : self._frames].float()

    def _project_to_spheres(
        self, sequence: Float[Tensor, "batch position channel"]
    ) -> Float[Tensor, "batch position channel"]:
        """Each position scaled to a root mean square of 1, in float32."""
        return rms_norm(sequence.float(), (self._latent.channels,), eps=1e-6)


class _ResidualBlock(nn.Module):
    """Two convolutions, each after normalisation, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *norm_act(width),
            nn.Conv1d(width, width, 3, padding=1),
            *norm_act(width),
            nn.Conv1d(width, width, 3, padding=1),
        )

    def forward(self, hidden: Hidden) -> Hidden:
        update: Tensor = self.branch(hidden)
        return hidden + update
