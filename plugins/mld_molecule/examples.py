"""Small molecules that carry a number: a molecule with that many carbon atoms.

Every molecule is made from rules (substituents on one atom, or a chain with links and branches),
passed through rdkit, and kept if its chemistry is plausible and its SELFIES short.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from rdkit import Chem

from mld_core import SplitName
from mld_molecule.selfies_rdkit import parse

LONGEST = 12
"""Symbols in the SELFIES of an example, at most."""

PER_LABEL = 600
"""Molecules per label, at most."""

HALOGENS = ("F", "Cl", "Br", "I")

# Well-known molecules without carbon and with one; the rest of these labels is substituted.
INORGANIC = """
O N P S OO N#N O=O NN NO N=N NNN N=O NN=O ONO NN=N OF OCl OBr OI ON=O
O[N+](=O)[O-] N[N+](=O)[O-] [N-]=[N+]=O [N-]=[N+]=N O=NF O=NCl O=NBr O=[N+]([O-])F O=[N+]([O-])Cl
NN=NN NS(N)(=O)=O NS(=O)(=O)O NS(=O)(=O)F NS(=O)(=O)Cl OS(=O)(=O)O OS(=O)O OS(=O)(=O)F
OS(=O)(=O)Cl O=S=O O=S(=O)=O SS SSS ClSSCl OS(=O)(=O)S OS(=O)(=O)OS(=O)(=O)O O=S(F)F
O=S(Cl)Cl O=S(Br)Br O=S(=O)(F)F O=S(=O)(Cl)Cl O=S(=O)(F)Cl OP(=O)(O)O OP(O)O O=P(F)(F)F
O=P(Cl)(Cl)Cl O=P(Br)(Br)Br OP(=O)(O)F NP(N)(N)=O S=P(Cl)(Cl)Cl OP(=O)(O)OP(=O)(O)O PP
OB(O)O OB(O)F OB(F)F NB(N)N B1NBNBN1 OB1OB(O)OB(O)O1 FB(F)B(F)F ClB(Cl)B(Cl)Cl
"""
ONE_CARBON = """
CO CN CS CP CB C=O C=S C=N C#N O=CO O=CF O=CCl NC=O NC=S N=CN O=C=O S=C=S O=C=S N=C=O N=C=S N=C=N
NC(N)=O NC(N)=S N=C(N)N NC(=O)O NC(=O)F NC(=O)Cl OC(=O)O O=C(O)F O=C(O)Cl O=C(F)F O=C(Cl)Cl
O=C(F)Cl O=C(Br)Br S=C(Cl)Cl N#CF N#CCl N#CBr N#CI N#CO N#CS N#CN C=NO C=NN CNN CNO CON
CN=O C[N+](=O)[O-] CON=O CO[N+](=O)[O-] NNC=O ONC=O NNC(N)=O NNC(=O)NN NC(=O)NO CS(=O)(=O)O
CS(N)(=O)=O CS(=O)(=O)Cl CS(=O)(=O)F CS(=O)O COS(=O)(=O)O CSS OC(F)(F)F SC(F)(F)F
O=S(=O)(O)C(F)(F)F O=S(=O)(F)C(F)(F)F CP(=O)(O)O COP(=O)(O)O CB(O)O COB(O)O FSC(F)(F)F
CN=[N+]=[N-] O=[N+]([O-])C(Cl)(Cl)Cl OCO FC(F)=O FC(F)=S N=C(N)NN NC(=N)NO CNF
CNCl CN(F)F CN(Cl)Cl COCl CSCl
"""

# What begins and ends a chain, branches off its carbons, and links them.
HEADS = ("", "", "O", "N", "S", "F", "Cl", "Br", "O=", "N#")
TAILS = ("", "", "O", "N", "S", "F", "Cl", "Br", "=O", "#N")
BRANCHES = ("(F)", "(O)", "(=O)")
LINKS = ("O", "N", "S", "=")
TRIES = 6000
"""Chains drawn per label, at most."""

IMPLAUSIBLE = tuple(
    Chem.MolFromSmarts(pattern)
    for pattern in (
        "[N,O,S,F,Cl,Br]-[N,O,S,F,Cl,Br]",
        "[CX4]([OH,NH2,NH,SH])[O,N,S]",
        "[CX4]([F,Cl,Br])[O,N,S]",
        "[CX3;!$(C=[O,S,N])]([OH,NH2,NH,SH,F,Cl,Br])=C",
        "[C^1][O,N,S,F,Cl,Br]",
        "[OH]C(=O)[N,O,S]",
        "C=C=[C,O]",
    )
)


def substituted(centre: str, valence: int, groups: tuple[str, ...]) -> Iterator[str]:
    """SMILES of one atom that carries some of the groups, and hydrogen for the rest."""
    for count in range(valence + 1):
        for chosen in combinations_with_replacement(groups, count):
            hydrogens = f"H{valence - count}" if count < valence else ""
            yield f"[{centre}{hydrogens}]" + "".join(f"({group})" for group in chosen)


def without_carbon() -> Iterator[str]:
    """SMILES of hydrides, halides, oxides and acids of the elements around carbon."""
    yield from INORGANIC.split()
    yield from HALOGENS
    yield from (a + b for a, b in combinations_with_replacement(HALOGENS, 2))
    for centre, valence in (("Si", 4), ("P", 3), ("B", 3)):
        yield from substituted(centre, valence, HALOGENS[:3])
    yield from substituted("N", 3, HALOGENS[:2])
    yield from substituted("S", 2, HALOGENS[:2])
    for length in range(2, 6):
        yield "[SiH3]" + "[SiH2]" * (length - 2) + "[SiH3]"


def with_one_carbon() -> Iterator[str]:
    """SMILES of the one-carbon molecules: halomethanes, and what else C1 chemistry knows."""
    yield from ONE_CARBON.split()
    yield from substituted("C", 4, HALOGENS)


def chains(label: int) -> Iterator[str]:
    """SMILES of chains with that many carbon atoms, always in the same order.

    Long chains are plainer, so that as many of them stay short.
    """
    rng = random.Random(label)
    branches, links = BRANCHES + ("",) * 2 * label, LINKS + ("",) * label
    for _ in range(TRIES):
        carbons = ("C" + rng.choice(branches) + rng.choice(links) for _ in range(label - 1))
        yield rng.choice(HEADS) + "".join(carbons) + "C" + rng.choice(TAILS)


def is_small(molecule: Chem.Mol, smiles: str) -> bool:
    """Whether a SELFIES fits: a symbol for an atom, two for a branch or a closed ring."""
    rings = molecule.GetRingInfo().NumRings()
    return molecule.GetNumAtoms() + 2 * (smiles.count("(") + rings) <= LONGEST


def is_plausible(molecule: Chem.Mol) -> bool:
    """Whether a molecule is free of groups that would fall apart on the shelf."""
    return not any(molecule.HasSubstructMatch(pattern) for pattern in IMPLAUSIBLE)


@cache
def molecules(label: int) -> tuple[str, ...]:
    """The canonical SMILES of a label, distinct, in an order that never changes."""
    special = {0: without_carbon, 1: with_one_carbon}
    found: dict[str, None] = {}
    for written in special[label]() if label in special else chains(label):
        try:
            molecule = parse(written)
        except ValueError:
            continue  # too many bonds on one atom
        smiles = Chem.MolToSmiles(molecule)
        if is_small(molecule, smiles) and (label in special or is_plausible(molecule)):
            found[smiles] = None
        if len(found) == PER_LABEL:
            break
    return tuple(found)


def split_of(smiles: str) -> SplitName:
    """The split that owns a molecule: 80, 10 and 10 of a hundred, by its digest."""
    place = int.from_bytes(hashlib.sha256(smiles.encode()).digest()[:8]) % 100
    return "train" if place < 80 else "validation" if place < 90 else "test"


@cache
def molecules_of(label: int, split: SplitName) -> tuple[str, ...]:
    """The canonical SMILES of a label that belong to a split."""
    return tuple(smiles for smiles in molecules(label) if split_of(smiles) == split)


def draw(labels: Sequence[int], split: SplitName, rng: np.random.Generator) -> list[str]:
    """One molecule per label, each used once before any is used again."""
    drawn: list[str] = [""] * len(labels)
    for label in sorted(set(labels)):
        rows = [row for row, other in enumerate(labels) if other == label]
        pool = molecules_of(label, split)
        rounds = math.ceil(len(rows) / len(pool))
        order = np.concatenate([rng.permutation(len(pool)) for _ in range(rounds)])
        for row, place in zip(rows, order, strict=False):
            drawn[row] = pool[place]
    return drawn
