"""The alphabet of SELFIES symbols, and molecules as rows of token ids over it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mld_molecule.selfies_rdkit import nearest_smiles, parse, selfies_smiles, selfies_symbols

END = 0
"""The token that ends a molecule, and fills the row after it."""

BASE_SYMBOLS = (
    "[B]", "[C]", "[=C]", "[#C]", "[N]", "[=N]", "[#N]", "[O]", "[=O]", "[F]",
    "[Si]", "[P]", "[=P]", "[S]", "[=S]", "[Cl]", "[Br]", "[I]",
    "[SiH1]", "[SiH2]", "[SiH3]", "[SiH4]", "[N+1]", "[=N+1]", "[N-1]", "[=N-1]", "[O-1]",
    "[Branch1]", "[=Branch1]", "[#Branch1]", "[Branch2]", "[=Branch2]", "[#Branch2]",
    "[Ring1]", "[Ring2]",
)  # fmt: skip
"""Symbols in every alphabet, so that a small training set does not make ordinary molecules
unknown: common atoms, and what SELFIES spells the sizes of rings and branches with."""


@dataclass(frozen=True)
class Alphabet:
    """Rows of `length` token ids; token i stands for symbols[i − 1]."""

    symbols: tuple[str, ...]
    length: int

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {symbol: token for token, symbol in enumerate(self.symbols, start=1)}

    def tokens(self, smiles: str) -> Int[Tensor, " length"]:
        """A molecule's row. ValueError says which symbol is unknown, or how much is too long."""
        written = selfies_symbols(smiles)
        unknown = sorted(set(written) - set(self._tokens))
        if unknown:
            raise ValueError(
                f"{smiles!r} needs the SELFIES symbol {', '.join(unknown)}, unknown to this"
                " modality: put a molecule that has it into the training split"
            )
        if len(written) > self.length:
            raise ValueError(
                f"{smiles!r} takes {len(written)} SELFIES symbols, but {self.length} fit:"
                f" set max_symbols to {len(written)} or more"
            )
        row = torch.full((self.length,), END)
        row[: len(written)] = torch.tensor([self._tokens[symbol] for symbol in written])
        return row

    def written(self, row: Int[Tensor, " length"]) -> tuple[str, ...]:
        """The symbols of a row up to its end."""
        tokens = row.tolist()
        end = tokens.index(END) if END in tokens else len(tokens)
        return tuple(self.symbols[token - 1] for token in tokens[:end])

    def smiles(self, row: Int[Tensor, " length"]) -> str:
        """The canonical SMILES of a row: of its longest beginning that this alphabet can read.

        Where a canonical molecule needs symbols of its own from the first atom on, as some ions do,
        of the longest beginning that is a molecule at all.
        """
        written = self.written(row)
        for length in range(len(written), 0, -1):
            smiles = selfies_smiles(written[:length])
            if smiles is not None and self._reads(smiles):
                return smiles
        return nearest_smiles(written)

    def _reads(self, smiles: str) -> bool:
        """Whether a molecule has a row."""
        try:
            symbols = selfies_symbols(smiles)
        except ValueError:
            return False
        return len(symbols) <= self.length and self._tokens.keys() >= set(symbols)

    def starts(self) -> Bool[Tensor, " token"]:
        """Ones at the tokens that make a molecule alone; a row that begins so is never empty."""
        alone = [selfies_smiles((symbol,)) is not None for symbol in self.symbols]
        return torch.tensor([False, *alone])

    def atomic_numbers(self) -> Int[Tensor, " token"]:
        """The element that each token stands for, as its atomic number; 0 for one that has none."""
        return torch.tensor([0, *(_atomic_number(symbol) for symbol in self.symbols)])

    def spelt(self) -> Int[Tensor, " token"]:
        """How many of the tokens after each are read as a number, not as atoms."""
        return torch.tensor([0, *(_spelt(symbol) for symbol in self.symbols)])


def _atomic_number(symbol: str) -> int:
    smiles = selfies_smiles((symbol,))
    return 0 if smiles is None else int(parse(smiles).GetAtomWithIdx(0).GetAtomicNum())


def _spelt(symbol: str) -> int:
    """The digit of a branch or a ring symbol: "[=Branch2]" spells its size with two symbols."""
    return int(symbol[-2]) if "Branch" in symbol or "Ring" in symbol else 0
