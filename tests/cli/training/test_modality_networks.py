"""What decides the weights of a modality's networks."""

from __future__ import annotations

from typing import Any

from mld.training.modality_networks import autoencoder_key, classifier_key
from mld_core import ModalityConfig
from mld_image.config import GridLatent, ImageConfig
from mld_image.modality import ImageModality
from mld_molecule.modality import Molecule, MoleculeConfig


def test_classifiers_do_not_depend_on_the_latent() -> None:
    latents: list[dict[str, Any]] = [{"latent_dim": 32}, {"latent": GridLatent(channels=4)}]
    vector, grid = (ImageModality(ImageConfig(size=64, **latent)) for latent in latents)
    assert classifier_key(vector) == classifier_key(grid)
    assert autoencoder_key(vector) != autoencoder_key(grid)
    narrow, wide = (Molecule(MoleculeConfig(latent_dim=dim)) for dim in (8, 16))
    assert classifier_key(narrow) == classifier_key(wide)


def test_other_settings_and_facts_decide_both_networks() -> None:
    small, large = (ImageModality(ImageConfig(size=size)) for size in (32, 64))
    assert classifier_key(small) != classifier_key(large)
    few, many = (Molecule(MoleculeConfig(latent_dim=8), {"symbols": [x]}) for x in "ab")
    for key in (autoencoder_key, classifier_key):
        assert key(few) != key(many)


def test_settings_of_a_config_that_declares_nothing_decide_both_networks() -> None:
    narrow, wide = (ImageModality(ModalityConfig(latent_dim=dim)) for dim in (8, 16))
    assert classifier_key(narrow) == autoencoder_key(narrow) != classifier_key(wide)
