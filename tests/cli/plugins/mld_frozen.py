"""A small modality with a pretrained autoencoder, whose weights stay in the file that it names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from mld_points import WIDTH, LinearAutoencoder, Points
from pydantic import Field
from safetensors.torch import load, save_file

from mld_core import ModalityConfig, SpecPath, hookimpl


def save_weights(path: Path, scale: float = 1.0) -> None:
    """Weights of an autoencoder whose latents are the items times `scale`."""
    eye, zeros = torch.eye(WIDTH), torch.zeros(WIDTH)
    weights = {"in_proj.weight": scale * eye, "out_proj.weight": eye / scale}
    save_file({**weights, "in_proj.bias": zeros, "out_proj.bias": zeros.clone()}, path)


class FrozenAutoencoder(LinearAutoencoder):
    def __init__(self, path: Path) -> None:
        super().__init__(WIDTH)
        content = path.read_bytes()
        self.load_state_dict(load(content))
        self.requires_grad_(False)
        self.sha256 = hashlib.sha256(content).hexdigest()

    @property
    def reference(self):
        return {"file": "weights", "sha256": self.sha256}


class FrozenConfig(ModalityConfig):
    latent_dim: int = Field(WIDTH, ge=WIDTH, le=WIDTH, description="width of the latent")
    weights: SpecPath = Field(description="file of the weights")


class Frozen(Points):
    """Six numbers in a text file; raw is a list of floats."""

    kind = "frozen"
    Config = FrozenConfig

    def autoencoder(self):
        return FrozenAutoencoder(self.config.weights)


@hookimpl
def register_modalities():
    return [Frozen]
