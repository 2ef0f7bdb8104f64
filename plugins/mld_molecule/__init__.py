"""The modality `molecule`: small molecules, read as SMILES and learnt as SELFIES."""

from __future__ import annotations

from mld_core import Modality, hookimpl
from mld_molecule.modality import Molecule, MoleculeConfig


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The molecule modality."""
    return [Molecule]


__all__ = ["Molecule", "MoleculeConfig", "register_modalities"]
