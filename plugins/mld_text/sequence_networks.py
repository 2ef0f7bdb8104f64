"""The autoencoder of texts whose latent is a sequence: residual convolutions along the text.

Each position is a point on a sphere, which describes a few bytes and what the convolutions see
around them, so a network that has seen the words of a language encodes a text that it has not.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, rms_norm

from mld_core import Autoencoder
from mld_text.byte_tokens import END, VOCABULARY_SIZE
from mld_text.config import SequenceLatent
from mld_text.networks import (
    LATENT_NOISE_STD,
    Hidden,
    Latents,
    Tokens,
    most_likely_text,
    text_nats,
)

BYTE_CHANNELS = 32
"""Channels of the feature maps at the resolution of bytes."""
POSITION_CHANNELS = 96
"""Channels of the feature maps at the resolution of the latent."""
SCRAMBLED_ROWS = 0.25
"""Share of a training batch of which the autoencoder also learns a scrambled copy."""
SCRAMBLED_BYTES = 0.25
"""Share of the bytes of a scrambled text that are random."""


class SequenceTextAutoencoder(Autoencoder):
    """Residual convolutional autoencoder whose latent is a sequence of points on spheres.

    The channels of a position have a root mean square of 1. Gaussian noise is added to latents in
    training, so that a sequence that is slightly off, as diffusion produces, decodes to the same
    text. All bytes are decoded in parallel; `decode` appends the end token after `max_bytes` bytes.
    """

    def __init__(self, latent: SequenceLatent, max_bytes: int) -> None:
        super().__init__()
        self._channels, self._max_bytes = latent.channels, max_bytes
        self._padding = -max_bytes % latent.downsampling
        fine, coarse, stride = BYTE_CHANNELS, POSITION_CHANNELS, latent.downsampling
        self.embedding = nn.Embedding(VOCABULARY_SIZE, fine)
        self.encoder = nn.Sequential(
            _ResidualConv(fine, 5),
            nn.Conv1d(fine, coarse, stride, stride),
            _ResidualConv(coarse, 3),
            nn.Conv1d(coarse, latent.channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(latent.channels, coarse, 3, padding=1),
            _ResidualConv(coarse, 3),
            _ResidualConv(coarse, 3),
            nn.ConvTranspose1d(coarse, fine, stride, stride),
            _ResidualConv(fine, 5),
        )
        self.logits = nn.Sequential(nn.LayerNorm(fine), nn.Linear(fine, VOCABULARY_SIZE))

    def encode(self, x: Tokens) -> Latents:
        """The sequence of each text, flattened; noisy in training mode."""
        tokens = pad(x[:, :-1], (0, self._padding), value=END)
        sequence: Tensor = self.encoder(self.embedding(tokens).mT.contiguous())
        z = self._project_to_spheres(sequence.mT).flatten(1)
        return z + LATENT_NOISE_STD * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Tokens:
        """The most likely token at each position; end tokens after the first one."""
        return most_likely_text(self.logits(self._hidden(z)))

    def loss(self, z: Latents, x: Tokens) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats, summed over the tokens up to and including the first end token.

        In training mode with that of scrambled copies of the first texts, so that also bytes and
        neighbours that are rare among the training texts come back exactly.
        """
        nats = text_nats(self._hidden(z), self.logits, x)
        if self.training:
            scrambled = _scramble(x[: math.ceil(SCRAMBLED_ROWS * len(x))])
            hidden = self._hidden(self.encode(scrambled))
            extra = text_nats(hidden, self.logits, scrambled)
            nats = nats + pad(extra, (0, len(x) - len(extra)))
        return nats

    def _hidden(self, z: Latents) -> Float[Tensor, "batch position channel"]:
        sequence = self._project_to_spheres(z.unflatten(1, (-1, self._channels)))
        hidden: Tensor = self.decoder(sequence.mT.contiguous())
        return hidden.mT[:, : self._max_bytes]

    def _project_to_spheres(
        self, sequence: Float[Tensor, "batch position channel"]
    ) -> Float[Tensor, "batch position channel"]:
        """Each position scaled to a root mean square of 1, in float32."""
        return rms_norm(sequence.float(), (self._channels,), eps=1e-6)


def _scramble(x: Tokens) -> Tokens:
    """Texts of the same lengths in which some bytes are random; they may not be UTF-8."""
    is_random = (torch.rand(x.shape, device=x.device) < SCRAMBLED_BYTES) & (x != END)
    return torch.randint_like(x, 1, VOCABULARY_SIZE).where(is_random, x)


class _ResidualConv(nn.Module):
    """Two convolutions after a normalisation of each position, added to their input."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv_in, self.conv_out = (
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2) for _ in range(2)
        )

    def forward(self, hidden: Hidden) -> Hidden:
        update: Tensor = self.conv_out(gelu(self.conv_in(self.norm(hidden.mT).mT.contiguous())))
        return hidden + update
