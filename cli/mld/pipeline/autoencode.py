"""Stage `autoencode`: an autoencoder for each modality, audited on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Shaped
from pydantic import JsonValue
from torch import Tensor

from mld.config.sections import AutoencodeSpec
from mld.data.encoding import mean_nll
from mld.data.loading import Data
from mld.pipeline.stage import StageOutput, run_stage
from mld.pipeline.starting_run import StartingRun
from mld.runtime.compute import device_of, place
from mld.runtime.context import RunContext
from mld.storage.stages import AUTOENCODE
from mld.training.autoencoders import (
    REFERENCES,
    build_autoencoder,
    check_references,
    references_of,
)
from mld.training.job import count_parameters, is_trainable
from mld.training.modality_networks import (
    ModalityObjective,
    autoencoder_key,
    modality_job,
    train_all,
)
from mld.training.parallel import Trainers
from mld_core import Autoencoder, Modality, PluginError

AUDIT_ROWS = 512
"""Training items whose reconstruction is compared with that of held-out ones."""


class ReconstructionObjective(ModalityObjective):
    """−log p(x | encode(x)) of recorded items."""

    network: Autoencoder

    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats per item."""
        return self.network.loss(self.network.encode(x), x)


def train_autoencoders(
    spec: AutoencodeSpec,
    modalities: Mapping[str, Modality],
    data: Data,
    context: RunContext,
    pool: Trainers | None,
    start: StartingRun | None = None,
) -> dict[str, Autoencoder]:
    """An autoencoder for each modality, in eval mode, trained if it has trainable parameters.

    Those of the run from which this one starts are taken from there.

    The stage's metadata hold the audit: mean −log p of held-out items, and of training items; and
    the references of autoencoders whose weights lie elsewhere.
    """
    run_dir = context.run_dir

    def compute() -> StageOutput:
        autoencoders, items, jobs = {}, {}, []
        taken: Mapping[str, Autoencoder] = {}
        if start is not None:
            taken = load_autoencoders(start.modalities, replace(context, run_dir=start.run_dir))
        for name, modality in modalities.items():
            train = data.train.items[name].recorded
            held_out = data.validation.items[name].recorded
            autoencoder = taken.get(name) or _seeded_autoencoder(name, modality, context)
            _check_contract(name, modality, autoencoder, train[:2])
            autoencoders[name], items[name] = autoencoder, (train, held_out)
            if name not in taken and is_trainable(autoencoder):
                objective = ReconstructionObjective(name, modality, autoencoder)
                rows, validation = {"x": train}, {"x": held_out}
                settings, key = spec.of(name), autoencoder_key(modality)
                jobs.append(
                    modality_job(AUTOENCODE.job, objective, rows, validation, settings, key)
                )
        trainings = train_all(jobs, context, pool)
        references = references_of(autoencoders)
        files = [run_dir.autoencoder(name) for name in modalities if name not in references]
        audit: dict[str, JsonValue] = {}
        parameters: dict[str, JsonValue] = {}
        for name, autoencoder in autoencoders.items():
            if name not in references:
                run_dir.write_tensors(run_dir.autoencoder(name), autoencoder.state_dict())
            place(autoencoder, context.compute.device)
            parameters[f"{AUTOENCODE.job}/{name}"] = count_parameters(autoencoder)
            train, held_out = items[name]
            audit[name] = {
                "train": mean_nll(autoencoder, train.select(slice(AUDIT_ROWS))),
                "validation": mean_nll(autoencoder, held_out),
            }
        metadata = {"audit": audit, "parameters": parameters, "trainings": trainings}
        return StageOutput(files, metadata | ({REFERENCES: references} if references else {}))

    return run_stage(
        run_dir,
        AUTOENCODE,
        context.fingerprint(AUTOENCODE),
        compute,
        lambda: load_autoencoders(modalities, context),
    )


def load_autoencoders(
    modalities: Mapping[str, Modality], context: RunContext
) -> dict[str, Autoencoder]:
    """The trained autoencoders of a run, in eval mode on its device.

    RunDirError if one is built from other weights than before.
    """
    autoencoders = {}
    for name, modality in modalities.items():
        autoencoders[name] = _seeded_autoencoder(name, modality, context).eval()
    check_references(context.run_dir, autoencoders)
    for name, autoencoder in autoencoders.items():
        if autoencoder.reference is None:
            context.run_dir.load_weights(autoencoder, context.run_dir.autoencoder(name))
        place(autoencoder, context.compute.device)
    return autoencoders


def _seeded_autoencoder(name: str, modality: Modality, context: RunContext) -> Autoencoder:
    build = partial(build_autoencoder, name, modality)
    return context.seeded_init(build, AUTOENCODE.name, name)


@torch.no_grad()
def _check_contract(
    name: str, modality: Modality, autoencoder: Autoencoder, x: Shaped[Tensor, " row *item"]
) -> None:
    """Put the autoencoder in eval mode; PluginError if shapes break its contract on two rows."""
    x = x.to(device_of(autoencoder))
    z = autoencoder.eval().encode(x)
    expected = (len(x), modality.latent_dim)
    if tuple(z.shape) != expected:
        raise PluginError(
            f"modality {name!r} (kind {modality.kind}): encode returned latents of shape "
            f"{tuple(z.shape)}, expected {expected}"
        )
    decoded = autoencoder.decode(z)
    if decoded.shape != x.shape or decoded.dtype != x.dtype:
        raise PluginError(
            f"modality {name!r} (kind {modality.kind}): decode returned {decoded.dtype} of shape "
            f"{tuple(decoded.shape)}, expected {x.dtype} of {tuple(x.shape)}"
        )
