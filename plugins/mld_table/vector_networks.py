"""The learnt autoencoder and the classifier of vectors."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_table.scales import MAX_MAGNITUDE, StandardScale

Vectors = Float[Tensor, "batch length"]
Latents = Float[Tensor, "batch latent"]

PRECISION = 0.1
"""Standard deviation of the Gaussian around a decoded vector, in those of the data."""
HIDDEN_WIDTH = 256
FEATURE_DIM = 64
"""Width of the classifier's features."""


class VectorAutoencoder(Autoencoder):
    """Standardised coordinates through a linear map and a perceptron, in either direction."""

    def __init__(self, scale: StandardScale, length: int, latent_dim: int) -> None:
        super().__init__()
        self.scale = scale
        self.encoder = _LinearAndPerceptron(length, latent_dim)
        self.decoder = _LinearAndPerceptron(latent_dim, length)

    def encode(self, x: Vectors) -> Latents:
        """The latent of each vector."""
        z: Tensor = self.encoder(self.scale.to_coordinates(x.float()))
        return z.float()

    def decode(self, z: Latents) -> Vectors:
        """The vector of each latent."""
        coordinates: Tensor = self.decoder(z)
        values = self.scale.to_numbers(coordinates.float())
        return values.clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE)

    def loss(self, z: Latents, x: Vectors) -> Float[Tensor, " batch"]:
        """−log of a Gaussian of coordinates around the decoded ones, without its constant."""
        decoded: Tensor = self.decoder(z)
        error = (decoded.float() - self.scale.to_coordinates(x.float())) / PRECISION
        return error.square().sum(1) / 2


class VectorClassifier(Classifier):
    """Perceptron on standardised coordinates."""

    def __init__(self, scale: StandardScale, length: int, classes: int) -> None:
        super().__init__()
        self.scale = scale
        self.hidden = nn.Sequential(
            nn.Linear(length, HIDDEN_WIDTH), nn.SiLU(), nn.Linear(HIDDEN_WIDTH, FEATURE_DIM)
        )
        self.logits = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Vectors) -> Float[Tensor, "batch feature"]:
        """The 64 activations of the last hidden layer."""
        return functional.silu(self.hidden(self.scale.to_coordinates(x.float()))).float()

    def forward(self, x: Vectors) -> Float[Tensor, "batch classes"]:
        """The logits of each vector."""
        logits: Tensor = self.logits(self.features(x))
        return logits.float()


class _LinearAndPerceptron(nn.Module):
    """The sum of a linear map, which suffices for principal components, and a perceptron."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.perceptron = nn.Sequential(
            nn.Linear(width, HIDDEN_WIDTH), nn.SiLU(), nn.Linear(HIDDEN_WIDTH, out, bias=False)
        )

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch out"]:
        total: Tensor = self.linear(x) + self.perceptron(x)
        return total
