"""Tokens of a latent, for a transformer, and the latent back from them."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from mld_core.diffusion.latent_layout import LatentShape, sides_of
from mld_core.diffusion.networks.score_network import init_zero

VECTOR_TOKEN_DIM = 32
"""Coordinates of a vector per token."""
MAX_VECTOR_TOKENS = 8
LONGEST_WAVE = 10_000.0
"""Longest period of positions, in tokens, over 2π (Vaswani et al. 2017)."""

LatentOfModality = Float[Tensor, "*batch latent"]
Tokens = Float[Tensor, "*batch _ width"]
Segment = Float[Tensor, "*#batch embedding"]
"""The embedding of a modality's time and role, and of what is OBSERVED."""


class LinearPath(nn.Module):
    """A linear map of a vector to one as long, whose gains its segment sets; 0 at first.

    With its gains at their best it is the exact velocity of a Gaussian vector.
    """

    def __init__(self, dim: int, embedding: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.gains = init_zero(nn.Linear(embedding, dim))
        for layer in (self.in_proj, self.out_proj):
            nn.init.eye_(layer.weight)

    def forward(
        self, x: Float[Tensor, "*batch _ dim"], segment: Segment
    ) -> Float[Tensor, "*batch _ dim"]:
        """The map of each vector of a row."""
        out: Tensor = self.out_proj(self.gains(silu(segment))[..., None, :] * self.in_proj(x))
        return out


class LatentTokens(nn.Module, ABC):
    """Maps from one modality's latent to its tokens, and from these to its velocity, at first 0.

    The velocity is a linear map of the tokens, plus a linear path from the latent that leaves them
    out. Much of a velocity is the noise of each number of a patch, which would fill tokens that are
    hardly wider than the patch; so they are left to what is not linear.

    Args:
        count: number of tokens.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    @abstractmethod
    def embed(self, z: LatentOfModality) -> Tokens:
        """The tokens of a latent."""

    @abstractmethod
    def read(self, tokens: Tokens, z: LatentOfModality, segment: Segment) -> LatentOfModality:
        """The velocity of a latent, from as many tokens and its segment."""


class VectorTokens(LatentTokens):
    """One or a few tokens of a vector, each of all its coordinates."""

    def __init__(self, dim: int, width: int, embedding: int) -> None:
        super().__init__(min(MAX_VECTOR_TOKENS, math.ceil(dim / VECTOR_TOKEN_DIM)))
        self.in_proj = nn.Linear(dim, self.count * width)
        self.out_proj = init_zero(nn.Linear(self.count * width, dim))
        self.linear_path = LinearPath(dim, embedding)

    def embed(self, z: LatentOfModality) -> Tokens:
        """The tokens of a vector."""
        tokens: Tensor = self.in_proj(z).unflatten(-1, (self.count, -1))
        return tokens

    def read(self, tokens: Tokens, z: LatentOfModality, segment: Segment) -> LatentOfModality:
        """The velocity of a vector."""
        linear: Tensor = self.linear_path(z[..., None, :], segment)
        velocity: Tensor = self.out_proj(tokens.flatten(-2)) + linear[..., 0, :]
        return velocity


class PatchTokens(LatentTokens):
    """A token for each patch of a sequence or grid, with sine-cosine codes of its position.

    A side that is no multiple of the patch is filled up with zeros.

    Args:
        patch: positions in a patch, for a grid along each side.
    """

    patches: Tensor
    places: Tensor
    positions: Tensor

    def __init__(self, shape: LatentShape, patch: int, width: int, embedding: int) -> None:
        patches = _patches(shape, patch)
        super().__init__(len(patches))
        self.in_proj = nn.Linear(patches.shape[1], width)
        self.out_proj = init_zero(nn.Linear(width, patches.shape[1]))
        self.linear_path = LinearPath(patches.shape[1], embedding)
        places = patches.flatten().argsort(stable=True)[: math.prod(shape)]
        sides = [math.ceil(side / patch) for side in sides_of(shape)]
        positions = _position_codes(sides, width)
        for name, values in ("patches", patches), ("places", places), ("positions", positions):
            self.register_buffer(name, values, persistent=False)

    def embed(self, z: LatentOfModality) -> Tokens:
        """The tokens of a sequence or grid."""
        tokens: Tensor = self.in_proj(self._split(z)) + self.positions
        return tokens

    def read(self, tokens: Tokens, z: LatentOfModality, segment: Segment) -> LatentOfModality:
        """The velocity of a sequence or grid."""
        velocity: Tensor = self.out_proj(tokens) + self.linear_path(self._split(z), segment)
        return velocity.flatten(-2).index_select(-1, self.places)

    def _split(self, z: LatentOfModality) -> Float[Tensor, "*batch token number"]:
        """The numbers of each patch."""
        numbers = pad(z, (0, 1)).index_select(-1, self.patches.flatten())
        patches: Tensor = numbers.unflatten(-1, self.patches.shape)
        return patches


def latent_tokens(shape: LatentShape, patch: int, width: int, embedding: int) -> LatentTokens:
    """The tokens of latents of a shape; `embedding` is the width of a segment."""
    if len(shape) == 1:
        return VectorTokens(shape[0], width, embedding)
    return PatchTokens(shape, patch, width, embedding)


def _patches(shape: LatentShape, patch: int) -> Int64[Tensor, "token number"]:
    """The coordinates of the flat latent in each patch; beyond a side, one more than the last."""
    index = torch.arange(math.prod(shape)).view(shape)
    index = index if len(shape) == 3 else index.T
    filling = [amount for side in reversed(sides_of(shape)) for amount in (0, -side % patch)]
    index = pad(index, filling, value=math.prod(shape))
    for dim in range(1, index.ndim):
        index = index.unfold(dim, patch, patch)
    sides = len(sides_of(shape))
    return index.movedim(0, sides).flatten(0, sides - 1).flatten(1)


def _position_codes(sides: list[int], width: int) -> Float[Tensor, "token width"]:
    """Sines and cosines of the place along each side, each in an equal part of the width."""
    count = width // (2 * len(sides))
    frequencies = LONGEST_WAVE ** (-torch.arange(count) / count)
    places = torch.tensor([*itertools.product(*map(range, sides))], dtype=torch.float32)
    angles = (places[..., None] * frequencies).flatten(1)
    return pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width - 2 * angles.shape[1]))
