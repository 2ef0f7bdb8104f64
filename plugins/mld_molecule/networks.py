"""The autoencoder and the classifier of rows of SELFIES tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_molecule.alphabet import END

Rows = Int[Tensor, "batch length"]

EMBEDDING = 24
HIDDEN = 256
FEATURES = 64
BEFORE = 3
"""Symbols before another that the classifier reads with it."""
NOISE = 0.3
"""Standard deviation of the noise on latents in training, where a latent's mean square is 1."""


class SymbolAutoencoder(Autoencoder):
    """Perceptrons between a row's embeddings and a latent of unit mean square.

    Given the latent, positions are independent: the decoder says all symbols at once. One hidden
    layer on either side generalises better than two to molecules not seen in training.

    Args:
        starts: the tokens that may begin a row; the end is not among them, and so each decoded
            row holds a molecule.
    """

    def __init__(self, starts: Bool[Tensor, " token"], length: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("starts", starts, persistent=False)
        self.length = length
        self.embed = nn.Embedding(len(starts), EMBEDDING)
        self.to_latent = _perceptron(length * EMBEDDING, latent_dim)
        self.from_latent = _perceptron(latent_dim, length * EMBEDDING)
        self.to_logits = nn.Linear(EMBEDDING, len(starts))

    def encode(self, x: Rows) -> Float[Tensor, "batch latent"]:
        """The latent of each row; in training with noise, which makes the latent space smooth."""
        latent = self.to_latent(self.embed(x).flatten(1)).float()
        z = functional.rms_norm(latent, latent.shape[1:])
        return z + NOISE * torch.randn_like(z) if self.training else z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Rows:
        """The likeliest symbols; the first is one that may begin a row, the end fills the rest."""
        logits = self._logits(z)
        logits[:, 0].masked_fill_(~self.starts, -torch.inf)
        rows = logits.argmax(dim=2)
        return rows.masked_fill((rows == END).cumsum(dim=1) > 0, END)

    def loss(self, z: Float[Tensor, "batch latent"], x: Rows) -> Float[Tensor, " batch"]:
        """−log p(x | z), a categorical per position."""
        logits = self._logits(z).flatten(0, 1)
        nats = functional.cross_entropy(logits, x.flatten(), reduction="none")
        return nats.view(x.shape).sum(dim=1)

    def _logits(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch length token"]:
        # Only the direction counts: a generated latent is brought back to where latents lie.
        z = functional.rms_norm(z.float(), z.shape[1:], eps=1e-6)
        h = self.from_latent(z).unflatten(1, (self.length, EMBEDDING))
        return self.to_logits(h).float()


class SymbolClassifier(Classifier):
    """A perceptron on sums over positions, since most of what labels molecules is counted.

    Each symbol is summed once alone and once with those before it: after a ring or branch symbol
    the next ones are numbers and not atoms.
    """

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, EMBEDDING)
        self.in_context = nn.Linear((BEFORE + 1) * EMBEDDING, FEATURES)
        self.counts = nn.Linear(EMBEDDING + FEATURES, HIDDEN)
        # Sums reach far: biases spread over their range let the units divide it from the start.
        nn.init.uniform_(self.counts.bias, -3.0, 3.0)
        self.shown = nn.Linear(HIDDEN, FEATURES)
        self.logits = nn.Linear(FEATURES, classes)

    def features(self, x: Rows) -> Float[Tensor, "batch feature"]:
        """What a molecule holds, 64 numbers."""
        inside = ((x == END).cumsum(dim=1) == 0).unsqueeze(2)
        h = self.embed(x) * inside
        padded = functional.pad(h, (0, 0, BEFORE, 0))
        window = torch.cat([padded[:, i : i + x.shape[1]] for i in range(BEFORE + 1)], dim=2)
        in_context = functional.silu(self.in_context(window)) * inside
        sums = 0.3 * torch.cat([h.sum(dim=1), in_context.sum(dim=1)], dim=1)
        return functional.silu(self.shown(functional.silu(self.counts(sums))))

    def forward(self, x: Rows) -> Float[Tensor, "batch classes"]:
        """The logits of each row over the classes."""
        return self.logits(self.features(x))


def _perceptron(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out))


__all__ = ["SymbolAutoencoder", "SymbolClassifier"]
