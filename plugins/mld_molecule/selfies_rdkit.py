"""Conversion between SMILES, SELFIES and drawings."""

from __future__ import annotations

from functools import lru_cache

import selfies
from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import CalcExactMolWt

MOLECULE_CACHE_SIZE = 2**18
"""Molecules whose conversions and properties are cached in memory."""


def parse_smiles(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES; ValueError with the SMILES and rdkit's reason if it is invalid."""
    with rdBase.BlockLogs(), rdBase.CaptureErrorLog() as log:
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        # Each line of the log begins with a time in brackets; the first line has the reason.
        reason = log.messages.partition("\n")[0].partition("] ")[2]
        raise ValueError(f"rdkit cannot read {smiles!r} as SMILES: {reason}")
    if not molecule.GetNumAtoms():
        raise ValueError(f"{smiles!r} has no atoms")
    return molecule


def canonical_smiles(smiles: str) -> str:
    """The canonical SMILES of a molecule, the same for every way to write it."""
    return str(Chem.MolToSmiles(parse_smiles(smiles)))


def largest_fragment(smiles: str) -> str:
    """Of several molecules, the one of most heavy atoms; of equal ones, the heaviest.

    The SMILES decides between those of equal mass.
    """
    fragments = Chem.GetMolFrags(parse_smiles(smiles), asMols=True)
    return max(
        (fragment.GetNumHeavyAtoms(), CalcExactMolWt(fragment), str(Chem.MolToSmiles(fragment)))
        for fragment in fragments
    )[-1]


def scaffold(smiles: str) -> str:
    """The canonical SMILES of a molecule's Bemis-Murcko scaffold; "" if it has no rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    core = MurckoScaffold.GetScaffoldForMol(parse_smiles(smiles))
    return str(Chem.MolToSmiles(core))


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def smiles_to_selfies(smiles: str) -> tuple[str, ...]:
    """The SELFIES symbols of a molecule; ValueError if SELFIES cannot express it.

    Atoms are in canonical order and aromatic rings in Kekulé form, so that the nitrogen of pyrrole
    has the symbol of any amine's.
    """
    molecule = parse_smiles(smiles)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    try:
        text = selfies.encoder(Chem.MolToSmiles(molecule))
    except selfies.EncoderError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"SELFIES cannot express {smiles!r}: {reason}") from error
    return tuple(selfies.split_selfies(text))


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def selfies_to_smiles(symbols: tuple[str, ...]) -> str | None:
    """The canonical SMILES of SELFIES symbols; None if they have no atoms or rdkit rejects them."""
    try:
        return canonical_smiles(selfies.decoder("".join(symbols)))
    except ValueError:
        return None


def longest_valid_prefix(symbols: tuple[str, ...]) -> str:
    """The canonical SMILES of the longest prefix of SELFIES symbols that rdkit accepts.

    SELFIES limits the valence of common elements only: it may bind eight neighbours to silicon or
    selenium, which rdkit rejects. ValueError if not even the first symbol is a molecule.
    """
    for length in range(len(symbols), 0, -1):
        smiles = selfies_to_smiles(symbols[:length])
        if smiles is not None:
            return smiles
    raise ValueError(f"no prefix of the SELFIES {''.join(symbols)!r} is a molecule")


def draw_svg(smiles: str) -> str:
    """A drawing of a molecule on a white background, as SVG; deterministic."""
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DSVG(280, 210)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, parse_smiles(smiles))
    drawer.FinishDrawing()
    return str(drawer.GetDrawingText())
