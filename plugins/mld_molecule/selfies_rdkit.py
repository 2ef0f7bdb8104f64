"""Between SMILES, SELFIES and drawings: parsing, canonical form, molecules that always exist."""

from __future__ import annotations

from functools import lru_cache

import selfies
from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D

REMEMBERED = 2**18
"""Molecules whose translations are kept in memory."""


def parse(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES. ValueError quotes it, with what rdkit holds against it."""
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
    """The one SMILES that rdkit writes for a molecule, however it was written."""
    return str(Chem.MolToSmiles(parse(smiles)))


@lru_cache(maxsize=REMEMBERED)
def selfies_symbols(smiles: str) -> tuple[str, ...]:
    """The SELFIES of a molecule, symbol by symbol. ValueError where SELFIES cannot express it.

    It follows the canonical order of atoms, with alternating bonds in aromatic rings: so the
    nitrogen of pyrrole is that of any amine, and needs no symbol of its own.
    """
    molecule = parse(smiles)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    try:
        text = selfies.encoder(Chem.MolToSmiles(molecule))
    except selfies.EncoderError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"SELFIES cannot express {smiles!r}: {reason}") from error
    return tuple(selfies.split_selfies(text))


def selfies_smiles(symbols: tuple[str, ...]) -> str | None:
    """The canonical SMILES of a SELFIES; None where it has no atoms, or rdkit refuses it."""
    try:
        return canonical_smiles(selfies.decoder("".join(symbols)))
    except ValueError:
        return None


@lru_cache(maxsize=REMEMBERED)
def nearest_smiles(symbols: tuple[str, ...]) -> str:
    """The canonical SMILES of the longest beginning of a SELFIES that rdkit accepts.

    SELFIES bounds the valence of common elements only: it may bind eight neighbours to silicon or
    selenium, which rdkit refuses. ValueError if not even the first symbol makes a molecule.
    """
    for length in range(len(symbols), 0, -1):
        smiles = selfies_smiles(symbols[:length])
        if smiles is not None:
            return smiles
    raise ValueError(f"no molecule begins with {symbols[0] if symbols else 'the end'}")


def draw_svg(smiles: str) -> str:
    """A drawing of a molecule on white, as SVG; the same text at every call."""
    drawer = rdMolDraw2D.MolDraw2DSVG(280, 210)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, parse(smiles))
    drawer.FinishDrawing()
    return str(drawer.GetDrawingText())
