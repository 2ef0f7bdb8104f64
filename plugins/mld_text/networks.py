"""The networks of text: an autoencoder that writes all positions at once, and a classifier."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_text.byte_tokens import END, SYMBOLS, up_to_end

CHANNELS = 16
KERNEL = 5
FEATURES = 64

Symbols = Int64[Tensor, "batch position"]
Latents = Float[Tensor, "batch latent"]


class TextAutoencoder(Autoencoder):
    """Symbols to a point on a sphere and back, every position at once.

    The latent has the root mean square 1. In training it is blurred by Gaussian noise of the
    standard deviation NOISE, so that neighbours on the sphere are read as the same text.

    Args:
        latent_dim: numbers in the latent.
        max_bytes: bytes in the longest text; the end symbol after it is not left to the networks.
    """

    NOISE = 0.3

    def __init__(self, latent_dim: int, max_bytes: int) -> None:
        super().__init__()
        width = max(192, 2 * latent_dim)
        self.embedding = nn.Embedding(SYMBOLS, CHANNELS)
        self.encoder = nn.Sequential(
            _Neighbours(),
            nn.Flatten(),
            nn.Linear(max_bytes * CHANNELS, width),
            nn.ReLU(),
            nn.LayerNorm(width),
            nn.Linear(width, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, width),
            _Residual(width),
            nn.LayerNorm(width),
            nn.Linear(width, max_bytes * CHANNELS),
            nn.Unflatten(1, (CHANNELS, max_bytes)),
            _Neighbours(),
        )
        self.logits = nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, SYMBOLS))

    def encode(self, x: Symbols) -> Latents:
        """A point on the sphere per text; blurred in training mode."""
        z = _on_sphere(self.encoder(self.embedding(x[:, :-1]).mT.contiguous()))
        return z + self.NOISE * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Symbols:
        """The likeliest symbol at each position; all is end symbols after the first."""
        likeliest = self.logits(self._hidden(z)).argmax(2)
        text = likeliest.where(up_to_end(likeliest), END)
        return functional.pad(text, (0, 1), value=END)

    def loss(self, z: Latents, x: Symbols) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats, summed over the text's symbols and its end symbol.

        What follows the first end symbol is certain, and adds nothing to −log p(x | z).
        """
        free = x[:, :-1]
        counted = up_to_end(free)
        logits = self.logits(self._hidden(z)[counted])
        nats = functional.cross_entropy(logits.float(), free[counted], reduction="none")
        return nats.new_zeros(free.shape).masked_scatter(counted, nats).sum(1)

    def _hidden(self, z: Latents) -> Float[Tensor, "batch position channel"]:
        return self.decoder(_on_sphere(z)).mT


class TextClassifier(Classifier):
    """What a text says, from the strongest answers of its filters anywhere in it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, CHANNELS)
        self.filters = nn.Sequential(
            nn.Conv1d(CHANNELS, 32, KERNEL, stride=2, padding=KERNEL // 2),
            nn.ReLU(),
            nn.Conv1d(32, FEATURES, KERNEL, stride=2, padding=KERNEL // 2),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(FEATURES, FEATURES)
        self.logits = nn.Linear(FEATURES, classes)

    def features(self, x: Symbols) -> Float[Tensor, "batch feature"]:
        """64 numbers per text."""
        strongest = self.filters(self.embedding(x).mT).amax(2)
        return functional.gelu(self.hidden(strongest))

    def forward(self, x: Symbols) -> Float[Tensor, "batch classes"]:
        """The logits of each text."""
        return self.logits(self.features(x))


class _Residual(nn.Module):
    """A residual block over whole vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, hidden: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        return hidden + self.branch(hidden)


class _Neighbours(nn.Module):
    """A residual convolution: what surrounds each position changes it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2)

    def forward(
        self, hidden: Float[Tensor, "batch channel position"]
    ) -> Float[Tensor, "batch channel position"]:
        return hidden + functional.relu(self.mix(hidden))


def _on_sphere(z: Latents) -> Latents:
    """The latents scaled to the root mean square 1, in float32."""
    return functional.rms_norm(z.float(), z.shape[1:], eps=1e-6)
