"""Layout of the joint latent: the position and the shape of each modality's latent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

LatentShape = tuple[int, ...]
"""(D,) of a vector, (L, C) of a sequence of L positions or (C, H, W) of a grid; C are channels."""
SHIFT_PER_LOG_POSITION = 0.5
"""Chosen from 0.5 and 0.75 on validation rows of photos."""
JointLatent = Float[Tensor, "*batch joint"]
"""The latents of all modalities, concatenated in the order of the layout."""
Times = Float[Tensor, "*#batch modality"]
"""Rows that share their times may have them once, as in broadcasting."""
Roles = Int64[Tensor, "*#batch modality"]
"""Elements of the enumeration Role; rows may share them."""
Present = Bool[Tensor, "batch modality"]
"""False where a cell is missing."""


def sides_of(shape: LatentShape) -> tuple[int, ...]:
    """The positions along each side: (L,) of a sequence, (H, W) of a grid, none of a vector."""
    return shape[1:] if len(shape) == 3 else shape[:-1]


def usual_shift(shape: LatentShape) -> float:
    """How much lower the log-SNR of a latent should be than that of a vector.

    The positions of a sequence or grid say in part the same, so that together they show at much
    noise what each shows at little. If all of N said the same, it would be log N.
    """
    return SHIFT_PER_LOG_POSITION * math.log(math.prod(sides_of(shape)))


@dataclass(frozen=True)
class LatentLayout:
    """Order and shapes of the latents that are flattened and concatenated to the joint latent.

    The order is that of `shapes` alone: a mapping passed to `concatenate` may have any order. (The
    official code uses the order of each dict, which can permute modalities silently.)

    Args:
        shapes: modality name to latent shape: (D,) of a vector, (L, C) of a sequence of L positions
            with C channels, (C, H, W) of a grid. At least one modality; every size is positive.
        shift: by modality, how much lower its log-SNR is at every time; 0 for those left out.
            (Hoogeboom et al. 2023, for the resolution of images.)
    """

    shapes: Mapping[str, LatentShape]
    shift: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = self.shapes.values()
        if not shapes or not all(1 <= len(shape) <= 3 and min(shape) > 0 for shape in shapes):
            raise ValueError(
                "a layout needs modalities whose latents are (D,), (L, C) or (C, H, W) of positive "
                f"width, not {dict(self.shapes)}"
            )

    @classmethod
    def of_vectors(cls, dims: Mapping[str, int]) -> LatentLayout:
        """A layout of vectors of these widths."""
        return cls({name: (width,) for name, width in dims.items()})

    @cached_property
    def dims(self) -> Mapping[str, int]:
        """Width of each modality's flattened latent, in order."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities in order."""
        return tuple(self.shapes)

    @property
    def has_structure(self) -> bool:
        """Whether any latent is a sequence or a grid."""
        return any(len(shape) > 1 for shape in self.shapes.values())

    @cached_property
    def latent_std(self) -> Float[Tensor, " modality"]:
        """Standard deviation of each modality's latents under the schedule: exp(−shift / 2).

        A latent that is smaller by this factor is as noisy as one of unit variance whose log-SNR is
        lower by `shift`, so that schedule, samplers and densities need not know of it.
        """
        return torch.tensor([math.exp(-self.shift.get(name, 0.0) / 2) for name in self.shapes])

    @property
    def joint_dim(self) -> int:
        """Width of the joint latent."""
        return sum(self.dims.values())

    @cached_property
    def modality_index(self) -> Int64[Tensor, " joint"]:
        """Index of the modality to which each coordinate of the joint latent belongs."""
        widths = torch.tensor(list(self.dims.values()))
        return torch.repeat_interleave(torch.arange(len(self.dims)), widths)

    def concatenate(self, latents: Mapping[str, Float[Tensor, "batch _"]]) -> JointLatent:
        """The joint latent. ValueError if a modality is missing, unknown or of another width."""
        if latents.keys() != self.dims.keys():
            raise ValueError(f"expected latents of {list(self.dims)}, got {list(latents)}")
        for name, width in self.dims.items():
            if latents[name].shape[-1] != width:
                raise ValueError(f"{name} is {latents[name].shape[-1]} wide, expected {width}")
        return torch.cat([latents[name] for name in self.dims], dim=-1)

    def split(self, z: JointLatent) -> dict[str, Float[Tensor, "*batch _"]]:
        """The latent of each modality, as views."""
        return dict(zip(self.dims, z.split(list(self.dims.values()), dim=-1), strict=True))

    def expand(self, values: Shaped[Tensor, "*batch modality"]) -> Shaped[Tensor, "*batch joint"]:
        """One value per modality, repeated over the modality's coordinates."""
        # Indexing by [..., index] is five times slower on a CPU.
        return values.index_select(-1, self.modality_index.to(values.device))

    def mean_square(self, errors: JointLatent) -> Float[Tensor, "*batch modality"]:
        """The mean square of the coordinates of each modality."""
        squares = errors.square().split(list(self.dims.values()), dim=-1)
        return torch.stack([block.mean(-1) for block in squares], dim=-1)
