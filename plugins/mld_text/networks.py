"""The networks of text: the autoencoder of a latent vector, and the classifier.

The autoencoder decodes all positions in parallel.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_text.byte_tokens import END, VOCABULARY_SIZE, mask_up_to_end

CHANNELS = 16
KERNEL_SIZE = 5
FEATURE_DIM = 64
"""Width of the classifier's features."""
LATENT_NOISE_STD = 0.3
"""Standard deviation of the noise on latents in training; latents have root mean square 1."""

Tokens = Int64[Tensor, "batch position"]
Latents = Float[Tensor, "batch latent"]
Hidden = Float[Tensor, "batch channel position"]


class TextAutoencoder(Autoencoder):
    """Convolutional autoencoder with latents on a sphere; decodes all positions in parallel.

    The root mean square of a latent is 1. Gaussian noise is added to latents in training, so that
    neighbours on the sphere decode to the same text. `decode` appends the end token after
    `max_bytes` bytes, the length of the longest text; it is not predicted.
    """

    def __init__(self, latent_dim: int, max_bytes: int) -> None:
        super().__init__()
        width = max(192, 2 * latent_dim)
        self.embedding = nn.Embedding(VOCABULARY_SIZE, CHANNELS)
        self.encoder = nn.Sequential(
            _ResidualConv(),
            nn.Flatten(),
            nn.Linear(max_bytes * CHANNELS, width),
            nn.ReLU(),
            nn.LayerNorm(width),
            nn.Linear(width, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, width),
            _ResidualMLP(width),
            nn.LayerNorm(width),
            nn.Linear(width, max_bytes * CHANNELS),
            nn.Unflatten(1, (CHANNELS, max_bytes)),
            _ResidualConv(),
        )
        self.logits = nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, VOCABULARY_SIZE))

    def encode(self, x: Tokens) -> Latents:
        """A point on the sphere per text; noisy in training mode."""
        z = _project_to_sphere(self.encoder(self.embedding(x[:, :-1]).mT.contiguous()))
        return z + LATENT_NOISE_STD * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Tokens:
        """The most likely token at each position; end tokens after the first one."""
        return most_likely_text(self.logits(self._hidden(z)))

    def loss(self, z: Latents, x: Tokens) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats, summed over the tokens up to and including the first end token.

        Later tokens are certain, and contribute nothing to −log p(x | z).
        """
        return text_nats(self._hidden(z), self.logits, x)

    def _hidden(self, z: Latents) -> Float[Tensor, "batch position channel"]:
        hidden: Tensor = self.decoder(_project_to_sphere(z))
        return hidden.mT


def most_likely_text(
    logits: Float[Tensor, "batch position token"],
) -> Tokens:
    """The most likely tokens, with end tokens after the first one, and one after all positions."""
    most_likely = logits.argmax(2)
    text = most_likely.where(mask_up_to_end(most_likely), END)
    return functional.pad(text, (0, 1), value=END)


def text_nats(
    hidden: Float[Tensor, "batch position channel"], logits: nn.Module, x: Tokens
) -> Float[Tensor, " batch"]:
    """Cross-entropy of the tokens of each text up to and including the first end token.

    Args:
        logits: from a hidden vector to those of the tokens.
    """
    targets = x[:, :-1]
    mask = mask_up_to_end(targets)
    predicted: Tensor = logits(hidden[mask])
    nats = functional.cross_entropy(predicted.float(), targets[mask], reduction="none")
    return nats.new_zeros(targets.shape).masked_scatter(mask, nats).sum(1)


class TextClassifier(Classifier):
    """Convolutional classifier with a maximum over positions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY_SIZE, CHANNELS)
        self.filters = nn.Sequential(
            nn.Conv1d(CHANNELS, 32, KERNEL_SIZE, stride=2, padding=KERNEL_SIZE // 2),
            nn.ReLU(),
            nn.Conv1d(32, FEATURE_DIM, KERNEL_SIZE, stride=2, padding=KERNEL_SIZE // 2),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.logits = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Tokens) -> Float[Tensor, "batch feature"]:
        """The 64 activations of the hidden layer."""
        strongest = self.filters(self.embedding(x).mT).amax(2)
        return functional.gelu(self.hidden(strongest))

    def forward(self, x: Tokens) -> Float[Tensor, "batch classes"]:
        """The logits of each text."""
        logits: Tensor = self.logits(self.features(x))
        return logits


class _ResidualMLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, hidden: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        update: Tensor = self.branch(hidden)
        return hidden + update


class _ResidualConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(CHANNELS, CHANNELS, KERNEL_SIZE, padding=KERNEL_SIZE // 2)

    def forward(self, hidden: Hidden) -> Hidden:
        return hidden + functional.relu(self.mix(hidden))


def _project_to_sphere(z: Latents) -> Latents:
    """Latents scaled to a root mean square of 1, in float32."""
    return functional.rms_norm(z.float(), z.shape[1:], eps=1e-6)
