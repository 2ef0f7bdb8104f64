"""Stage 1: data to trained autoencoders, one per modality, audited on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mld.config.sections import AutoencodeSpec
from mld.data.encoding import mean_nll
from mld.data.loading import Data, SplitTensors
from mld.runtime.context import RunContext
from mld.training.modality_networks import ModalityObjective, ModalityTraining, train_all
from mld_core import Autoencoder, Modality, PluginError

STAGE = "autoencode"
AUDITED = 512
"""Training items whose reconstruction is compared with that of held-out ones."""


class Reconstruction(ModalityObjective):
    """−log p(x | encode(x)) of recorded items."""

    network: Autoencoder

    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats per item."""
        return self.network.loss(self.network.encode(x), x)


def train_autoencoders(
    spec: AutoencodeSpec, modalities: Mapping[str, Modality], data: Data, context: RunContext
) -> dict[str, Autoencoder]:
    """A trained autoencoder per modality, in eval mode; those without parameters come as they are.

    The marker's facts hold the audit: held-out nats per item, and those of training.
    """
    run_dir = context.run_dir
    fingerprint = context.fingerprint(STAGE, spec)
    if run_dir.read_back(STAGE, fingerprint):
        return load_autoencoders(modalities, context)
    with run_dir.stage(STAGE) as seconds:
        trained, recorded, lessons = {}, {}, []
        for index, (name, modality) in enumerate(modalities.items()):
            train, held_out = (
                _recorded(split, name, index) for split in (data.train, data.validation)
            )
            autoencoder = context.fresh(modality.autoencoder, STAGE, name)
            _demand_flat_latents(name, modality, autoencoder, train[:2])
            trained[name], recorded[name] = autoencoder, (train, held_out)
            if any(p.requires_grad for p in autoencoder.parameters()):
                apprentice = Reconstruction(name, modality, autoencoder)
                rows, validation = {"x": train}, {"x": held_out}
                lessons.append(ModalityTraining(STAGE, apprentice, rows, validation, spec.of(name)))
        train_all(lessons, context)
        audit, parameters = {}, {}
        for name, (train, held_out) in recorded.items():
            autoencoder = trained[name]
            run_dir.write_tensors(run_dir.autoencoder(name), autoencoder.state_dict())
            parameters[name] = sum(p.numel() for p in autoencoder.parameters())
            audit[name] = {
                "train": mean_nll(autoencoder, train[:AUDITED]),
                "validation": mean_nll(autoencoder, held_out),
            }
        files = [run_dir.autoencoder(name) for name in modalities]
        facts = {"audit": audit, "parameters": parameters}
        run_dir.finish(STAGE, fingerprint, files, seconds(), facts)
        for name in modalities:
            run_dir.checkpoint(f"{STAGE}/{name}").unlink(missing_ok=True)
    return trained


def load_autoencoders(
    modalities: Mapping[str, Modality], context: RunContext
) -> dict[str, Autoencoder]:
    """The autoencoders of a run that has trained them, in eval mode."""
    loaded = {}
    for name, modality in modalities.items():
        autoencoder = context.fresh(modality.autoencoder, STAGE, name)
        weights = context.run_dir.read_tensors(context.run_dir.autoencoder(name))
        autoencoder.load_state_dict(weights)
        loaded[name] = autoencoder.eval()
    return loaded


def _recorded(rows: SplitTensors, name: str, index: int) -> Shaped[Tensor, " row *item"]:
    """The items of a modality in the rows that have one."""
    present = rows.present[:, index]
    return rows.items[name] if bool(present.all()) else rows.items[name][present]


@torch.no_grad()
def _demand_flat_latents(
    name: str, modality: Modality, autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]
) -> None:
    """Put the autoencoder in eval mode; PluginError if it breaks its contract on two rows."""
    z = autoencoder.eval().encode(x)
    expected = (len(x), modality.config.latent_dim)
    if tuple(z.shape) != expected:
        raise PluginError(
            f"modality {name!r} (kind {modality.kind}): encode gave latents of shape "
            f"{tuple(z.shape)}, expected {expected}"
        )
    back = autoencoder.decode(z)
    if back.shape != x.shape or back.dtype != x.dtype:
        raise PluginError(
            f"modality {name!r} (kind {modality.kind}): decode gave {back.dtype} of shape "
            f"{tuple(back.shape)}, expected {x.dtype} of {tuple(x.shape)}"
        )
