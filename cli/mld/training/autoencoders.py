"""Autoencoders as their modalities build them, and the weights that they refer to."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from mld.storage.digests import differences
from mld.storage.run_dir import RunDir
from mld.storage.stages import AUTOENCODE, DATA
from mld.training.job import is_trainable
from mld_core import Autoencoder, DataError, Modality, PluginError, RunDirError

REFERENCES = "references"
"""What the stage `autoencode` records of weights that the run does not hold."""


def build_autoencoder(name: str, modality: Modality) -> Autoencoder:
    """A new autoencoder of the modality `name`.

    DataError if what it needs is missing, such as weights; PluginError if it would train what it
    refers to.
    """
    label = f"modality {name!r} (kind {modality.kind})"
    try:
        autoencoder = modality.autoencoder()
    except (ValueError, OSError) as error:
        raise DataError(f"{label}: the autoencoder cannot be built: {error}") from error
    if autoencoder.reference is not None and is_trainable(autoencoder):
        raise PluginError(f"{label}: an autoencoder with a reference has trainable parameters")
    return autoencoder


def references_of(autoencoders: Mapping[str, Autoencoder]) -> dict[str, JsonValue]:
    """The references of those that have one, by name."""
    return {
        name: dict(autoencoder.reference)
        for name, autoencoder in autoencoders.items()
        if autoencoder.reference is not None
    }


def check_references(run_dir: RunDir, autoencoders: Mapping[str, Autoencoder]) -> None:
    """RunDirError if autoencoders refer to other weights than those that the run has used."""
    before = run_dir.stage_metadata(AUTOENCODE.name).get(REFERENCES, {})
    if changes := differences(before, references_of(autoencoders)):
        lines = [
            f"{run_dir.path}: pretrained weights are not those that the run has used:",
            *changes,
            "put the former ones back, or start anew with the present ones with "
            f"`mld run SPEC --from-stage {DATA.name}`",
        ]
        raise RunDirError("\n".join(lines))
