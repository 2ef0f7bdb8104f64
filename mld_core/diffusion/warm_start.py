"""Training a score network further, over the same modalities or more."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mld_core.diffusion.networks.score_network import ScoreNetwork


@torch.no_grad()
def take_over(network: ScoreNetwork, earlier: ScoreNetwork) -> None:
    """Copy the parameters of an earlier network to a new one of the same kind.

    It has the same modalities or more.

    Modalities may be in another order. Where those that are new are ABSENT, the network then
    predicts what the earlier one does. ValueError if an earlier modality is missing, its latent has
    another shape, or another parameter has one.
    """
    shapes, earlier_shapes = network.layout.shapes, earlier.layout.shapes
    for name, shape in earlier_shapes.items():
        if shapes.get(name) != shape:
            raise ValueError(f"latent of {name!r}: {shape} -> {shapes.get(name, 'nothing')}")
    pairs = [*_pairs(network, earlier)]
    for name, values, taken in pairs:
        if values.shape != taken.shape:
            raise ValueError(f"{name}: {[*taken.shape]} -> {[*values.shape]}")
    network.mute([name for name in shapes if name not in earlier_shapes])
    state = network.state_dict()
    for name in network.modality_parts():
        state[name].zero_()
    for _, values, taken in pairs:
        values.copy_(taken)


def _pairs(network: ScoreNetwork, earlier: ScoreNetwork) -> Iterator[tuple[str, Tensor, Tensor]]:
    """The values that both networks have, by the name of their parameter; as views."""
    earlier_state, earlier_parts = earlier.state_dict(), earlier.modality_parts()
    parts = network.modality_parts()
    for name, values in network.state_dict().items():
        if name in parts:
            of_modality = parts[name].split(values)
            for modality, taken in earlier_parts[name].split(earlier_state[name]).items():
                yield name, of_modality[modality], taken
        elif name in earlier_state:
            yield name, values, earlier_state[name]
