"""The networks of a run that can be exported, with examples of their inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator
from mld_core import Autoencoder
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.roles import Role

Module = TypeVar("Module", bound=nn.Module)

NETWORK = "network"
"""The name of the score network; decoders have those of their modalities."""
ROWS = 5
"""Rows of an example."""


@dataclass(frozen=True)
class ExportedNetwork:
    """A network to export.

    Args:
        name: of its file, without the suffix.
        description: what it is, for messages.
        module: in eval mode on the CPU; called with the inputs, in order.
        inputs: examples by name, of several rows.
        output: name of what it returns.
        defined: the outputs that are defined, where not all are.
    """

    name: str
    description: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    defined: Tensor | None = None


class Decoder(nn.Module):
    """The items of raw latents, as a module's `forward`."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, z: Float[Tensor, "batch latent"]) -> Shaped[Tensor, " batch *item"]:
        """The item of each latent."""
        return self.autoencoder.decode(z)


def exported_networks(run: TrainedRun) -> list[ExportedNetwork]:
    """The decoder of each modality, and the score network if the run has one."""
    generator = torch.Generator().manual_seed(0)
    networks = []
    for name, autoencoder in run.generator.decoders.items():
        modality = run.modalities[name]
        z = torch.randn(ROWS, modality.latent_dim, generator=generator)
        if name in run.generator.scales:
            scale = run.generator.scales[name]
            z = scale.mean + scale.std * z
        networks.append(
            ExportedNetwork(
                f"decode-{name}",
                f"the decoder of {name} (kind {modality.kind!r})",
                Decoder(_on_cpu(autoencoder)),
                {"z": z},
                "x",
            )
        )
    if isinstance(run.generator, DiffusionGenerator):
        model = run.score_model
        assert isinstance(model.predict_noise, nn.Module)
        networks.append(exported_score_network(model.predict_noise, model.layout))
    return networks


def exported_score_network(network: nn.Module, layout: LatentLayout) -> ExportedNetwork:
    """One evaluation of a score network: the noise in standardised joint latents."""
    generator = torch.Generator().manual_seed(0)
    roles = _example_roles(layout)
    times = torch.rand(roles.shape, generator=generator)
    times = torch.where(roles == Role.OBSERVED, 0.0, times)
    times = torch.where(roles == Role.ABSENT, 1.0, times)
    z = torch.randn(ROWS, layout.joint_dim, generator=generator)
    z = torch.where(layout.expand(roles) == Role.ABSENT, 0.0, z)
    return ExportedNetwork(
        NETWORK,
        "the score network",
        _on_cpu(network),
        {"z": z, "times": times, "roles": roles},
        "noise",
        layout.expand(roles) == Role.GENERATED,
    )


def _example_roles(layout: LatentLayout) -> Int64[Tensor, "row modality"]:
    """Every role in some row; in each row one modality at least is GENERATED."""
    row, column = torch.meshgrid(torch.arange(ROWS), torch.arange(len(layout.names)), indexing="ij")
    roles = (row + column) % len(Role)
    roles[:, 0] = Role.GENERATED
    return roles


def _on_cpu(module: Module) -> Module:
    """A copy on the CPU, in eval mode."""
    return copy.deepcopy(module).cpu().eval()
