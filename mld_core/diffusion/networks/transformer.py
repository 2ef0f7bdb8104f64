"""A transformer over the tokens of all modalities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from mld_core.diffusion.latent_layout import JointLatent, LatentLayout, Roles, Times
from mld_core.diffusion.modality_modules import ModalityModules
from mld_core.diffusion.networks.latent_tokens import (
    LatentOfModality,
    LatentTokens,
    Tokens,
    latent_tokens,
)
from mld_core.diffusion.networks.score_network import ScoreNetwork, TimeFeatures, init_zero
from mld_core.diffusion.roles import Role
from mld_core.diffusion.schedule import VPSchedule

REGISTERS = 4
"""Tokens that belong to no modality (Darcet et al. 2024)."""
MLP_RATIO = 4
"""Width of the layer between the two of a block's MLP, over that of the tokens."""

Segments = Float[Tensor, "*#batch _ embedding"]
"""Embeddings of times, roles and what is OBSERVED: of the registers, then of each modality."""
Seen = Bool[Tensor, "*batch 1 1 _"]
"""The tokens that are attended to."""


class Attention(nn.Module):
    """Self-attention with normalised queries and keys (Dehghani et al. 2023)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tokens, seen: Seen | None) -> Tokens:
        """What each token takes from those that are seen."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2).flatten(0, -4)
            for part in self.in_proj(x).chunk(3, dim=-1)
        )
        query, key = self.query_norm(query.float()), self.key_norm(key.float())
        mask = None if seen is None else seen.flatten(0, -4)
        # On a CPU, attention in bfloat16 takes twice as long to train as in float32.
        dtype = torch.float32 if x.device.type == "cpu" else value.dtype
        with torch.autocast(x.device.type, enabled=False):
            mixed = scaled_dot_product_attention(
                query.to(dtype), key.to(dtype), value.to(dtype), attn_mask=mask
            )
        out: Tensor = self.out_proj(mixed.transpose(-3, -2).flatten(-2))
        return out.view(x.shape)


class Summary(nn.Linear):
    """A linear map of a latent.

    A step of Adam changes every weight by about as much, and so what is added up over a wide latent
    by more. Therefore wide latents are scaled down.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__(dim, width, bias=False)
        self.scale = min(1.0, math.sqrt(width / dim))

    def forward(self, z: LatentOfModality) -> Float[Tensor, "*batch width"]:
        """The map of each latent."""
        return super().forward(self.scale * z)


class Modulation(nn.Module):
    """Shifts, scales and gates of tokens, set by their segments.

    All are 0 at first (adaLN-zero, Peebles and Xie 2023).
    """

    def __init__(self, embedding: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.proj = init_zero(nn.Linear(embedding, parts * width))

    def forward(self, segments: Segments, counts: Sequence[int]) -> tuple[Tokens, ...]:
        """The parts, for each of the tokens of each segment."""
        return _spread(self.proj(silu(segments)), counts).chunk(self.parts, dim=-1)


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each normalised, modulated and added to the tokens."""

    def __init__(self, width: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.modulation = Modulation(embedding, width, parts=6)
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width),
            nn.GELU("tanh"),
            nn.Linear(MLP_RATIO * width, width),
        )

    def forward(
        self, x: Tokens, segments: Segments, counts: Sequence[int], seen: Seen | None
    ) -> Tokens:
        """The tokens after the block."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(segments, counts)
        h = torch.addcmul(shift, self.attention_norm(x), 1 + scale)
        x = torch.addcmul(x, gate, self.attention(h, seen))
        h = torch.addcmul(mlp_shift, self.mlp_norm(x), 1 + mlp_scale)
        return torch.addcmul(x, mlp_gate, self.mlp(h))


class Transformer(ScoreNetwork):
    """A transformer whose tokens are patches of all latents; for sequences and grids.

    Each modality's tokens are modulated by its own time and role, and all tokens by a linear map of
    each latent that is OBSERVED: what a sequence or grid shows as a whole is decided at low SNR,
    where its patches show nothing, and so they know at once what it is to be. Register tokens have
    the times and roles of all modalities that are not ABSENT. An ABSENT modality is not seen: it is
    left out where the rows of a request share their roles, and otherwise no token attends to it. So
    its content changes nothing, and a marginal costs only the tokens of its modalities. Nothing
    depends on the order of the modalities.

    Args:
        layout, schedule: as of ScoreNetwork.
        width: of a token, a multiple of `heads`.
        depth: number of blocks.
        heads: of the attention.
        patch: positions of a sequence in a token; of a grid, along each side.
        reads_roles: False for independent times; ABSENT modalities are then noise that is seen.
    """

    def __init__(
        self,
        layout: LatentLayout,
        schedule: VPSchedule,
        width: int,
        depth: int,
        heads: int = 4,
        patch: int = 1,
        reads_roles: bool = True,
    ) -> None:
        if width % heads:
            raise ValueError(f"width must be a multiple of heads ({heads}), not {width}")
        super().__init__(layout, schedule)
        embedding = max(width // 2, 32)
        self.reads_roles = reads_roles
        self.features = TimeFeatures(schedule, reads_roles)

        def perceptron() -> nn.Sequential:
            first = nn.Linear(self.features.width, embedding)
            return nn.Sequential(first, nn.SiLU(), nn.Linear(embedding, embedding))

        self.embed = ModalityModules[nn.Sequential]({name: perceptron() for name in layout.names})
        self.tokens = ModalityModules[LatentTokens](
            {
                name: latent_tokens(shape, patch, width, embedding)
                for name, shape in layout.shapes.items()
            }
        )
        self.observed = ModalityModules[Summary](
            {name: Summary(dim, embedding) for name, dim in layout.dims.items()}
            if reads_roles
            else {}
        )
        self.registers = nn.Parameter(torch.randn(REGISTERS, width))
        self.registers_proj = nn.Linear(embedding, embedding)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, embedding) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = Modulation(embedding, width, parts=2)

    def velocity(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The velocity of z, which is undefined where a modality is ABSENT."""
        if self.reads_roles and roles.shape[-2] == 1:
            return self._velocity_of_terms(z, times, roles)
        absent = (roles == Role.ABSENT) & self.reads_roles
        latents = self.layout.split(torch.where(self.layout.expand(absent), 0.0, z))
        tokens = [self.tokens[name].embed(latent) for name, latent in latents.items()]
        seen = None
        if self.reads_roles:
            is_seen = torch.cat([torch.ones_like(absent[..., :1]), ~absent], dim=-1)[..., None]
            counts = [REGISTERS, *(part.shape[-2] for part in tokens)]
            seen = _spread(is_seen, counts)[..., None, None, :, 0]
        segments = self._segments(times, roles, absent, latents if self.reads_roles else {})
        mixed = self._mix(tokens, segments, seen)
        velocities = [
            self.tokens[name].read(part, latents[name], segments[..., 1 + index, :])
            for index, (name, part) in enumerate(zip(latents, mixed, strict=True))
        ]
        return torch.cat(velocities, dim=-1)

    def _velocity_of_terms(self, z: JointLatent, times: Times, roles: Roles) -> JointLatent:
        """The velocity of rows that share their roles, or of terms whose rows do.

        Terms that have as many tokens of each modality are computed at once, such as the marginals
        of modalities of one shape.
        """

        def by_term(values: Tensor) -> Tensor:
            return values.expand(*z.shape[:-2], -1, -1).reshape(-1, *values.shape[-2:])

        names, latents = self.layout.names, self.layout.split(by_term(z))
        absent = by_term(roles) == Role.ABSENT
        is_observed = (roles == Role.OBSERVED).flatten(0, -2).any(0).tolist()
        observed = {name: latents[name] for name in itertools.compress(names, is_observed)}
        segments = self._segments(by_term(times), by_term(roles), absent, observed)
        groups: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for term, flags in enumerate(absent[:, 0].tolist()):
            present = [index for index, is_absent in enumerate(flags) if not is_absent]
            counts = tuple(self.tokens[names[index]].count for index in present)
            if present:
                groups.setdefault(counts, []).append((term, present))
        velocities = {name: [*torch.zeros_like(latents[name])] for name in names}
        for members in groups.values():
            tokens = [
                [self.tokens[names[index]].embed(latents[names[index]][term]) for index in present]
                for term, present in members
            ]
            of_members = [
                segments[term][:, [0, *(i + 1 for i in present)]] for term, present in members
            ]
            mixed = self._mix(
                [*map(torch.stack, zip(*tokens, strict=True))], torch.stack(of_members)
            )
            for place, (term, present) in enumerate(members):
                for part, index in zip(mixed, present, strict=True):
                    name, segment = names[index], segments[term][:, 1 + index]
                    velocity = self.tokens[name].read(part[place], latents[name][term], segment)
                    velocities[name][term] = velocity.to(z)
        return torch.cat([*map(torch.stack, velocities.values())], dim=-1).view(z.shape)

    def _segments(
        self,
        times: Times,
        roles: Roles,
        absent: Bool[Tensor, "*#batch modality"],
        observed: Mapping[str, Float[Tensor, "*#batch _"]],
    ) -> Segments:
        """Embeddings of times, roles and what is OBSERVED: of the registers, then each modality.

        `observed` has the latents of all modalities that are OBSERVED in any row.
        """
        features = self.features(times, roles).unbind(-2)
        each = torch.stack(
            [
                self.embed[name](feature)
                for name, feature in zip(self.layout.names, features, strict=True)
            ],
            dim=-2,
        )
        for name, latent in observed.items():
            is_observed = roles[..., self.layout.names.index(name), None] == Role.OBSERVED
            each = each + torch.where(is_observed, self.observed[name](latent), 0.0)[..., None, :]
        seen = torch.where(absent[..., None], 0.0, each).sum(-2, keepdim=True)
        return torch.cat([self.registers_proj(silu(seen)), each], dim=-2)

    def _mix(
        self, tokens: Sequence[Tokens], segments: Segments, seen: Seen | None = None
    ) -> Sequence[Tokens]:
        """The tokens of each modality after all blocks."""
        counts = [REGISTERS, *(part.shape[-2] for part in tokens)]
        registers = self.registers.expand(*tokens[0].shape[:-2], -1, -1)
        x = torch.cat([registers, *tokens], dim=-2)
        for block in self.blocks:
            x = block(x, segments, counts, seen)
        shift, scale = self.modulation(segments, counts)
        x = torch.addcmul(shift, self.norm(x), 1 + scale)
        mixed: Sequence[Tokens] = x.split(counts, dim=-2)[1:]
        return mixed


def _spread(
    values: Shaped[Tensor, "*batch segment part"], counts: Sequence[int]
) -> Shaped[Tensor, "*batch token part"]:
    """The values of segments, for each of their tokens."""
    spread = [
        value.expand(*value.shape[:-2], count, -1)
        for value, count in zip(values.split(1, dim=-2), counts, strict=True)
    ]
    return torch.cat(spread, dim=-2)
