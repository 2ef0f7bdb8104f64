"""Conversion between molecules and rows of token ids over a vocabulary of SELFIES symbols."""

from __future__ import annotations

import warnings
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mld_core import LimitError
from mld_molecule.selfies_rdkit import (
    longest_valid_prefix,
    parse_smiles,
    selfies_to_smiles,
    smiles_to_selfies,
)

END = 0
"""The token that ends a molecule and pads the row."""

BASE_SYMBOLS = (
    "[B]", "[C]", "[=C]", "[#C]", "[N]", "[=N]", "[#N]", "[O]", "[=O]", "[F]",
    "[Si]", "[P]", "[=P]", "[S]", "[=S]", "[Cl]", "[Br]", "[I]",
    "[SiH1]", "[SiH2]", "[SiH3]", "[SiH4]", "[N+1]", "[=N+1]", "[N-1]", "[=N-1]", "[O-1]",
    "[Branch1]", "[=Branch1]", "[#Branch1]", "[Branch2]", "[=Branch2]", "[#Branch2]",
    "[Ring1]", "[Ring2]",
)  # fmt: skip
"""Symbols in every vocabulary, so that ordinary molecules can be encoded even if the training set
is small: common atoms, and the symbols with which SELFIES writes the sizes of rings and branches.
"""


@dataclass(frozen=True)
class SelfiesVocabulary:
    """SELFIES symbols and the row length; token i stands for symbols[i − 1], and 0 is the end.

    With `skip_unknown`, a molecule is encoded without the symbols that are not in here.
    """

    symbols: tuple[str, ...]
    length: int
    skip_unknown: bool = False

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {symbol: token for token, symbol in enumerate(self.symbols, start=1)}

    def encode(self, smiles: str) -> Int[Tensor, " length"]:
        """The row of a molecule; ValueError if it is too long or a symbol is not in here."""
        symbols = smiles_to_selfies(smiles)
        if len(symbols) > self.length:
            raise LimitError(
                f"{smiles!r:.60} has {len(symbols)} SELFIES symbols, more than the {self.length}"
                f" that fit: set max_symbols to {len(symbols)} or more",
                "max_symbols",
                len(symbols),
            )
        if unknown := {*symbols} - {*self._token_of}:
            symbols = self._without(unknown, smiles, symbols)
        row = torch.full((self.length,), END)
        row[: len(symbols)] = torch.tensor([self._token_of[symbol] for symbol in symbols])
        return row

    def _without(self, unknown: Set[str], smiles: str, symbols: tuple[str, ...]) -> tuple[str, ...]:
        """The other symbols of a molecule. ValueError if unknown ones are errors, or are all."""
        known = tuple(symbol for symbol in symbols if symbol not in unknown)
        names = ", ".join(sorted(unknown))
        if not (known and self.skip_unknown):
            raise ValueError(
                f"{smiles!r:.60} contains the SELFIES symbol {names}, which no training molecule"
                " contains: add a molecule that does to the training split, or set unknown: skip"
            )
        warnings.warn(f"read without {names}, which no training molecule has", stacklevel=4)
        return known

    def _has_room_for(self, smiles: str) -> bool:
        """Whether a row can hold a molecule as it is. ValueError if SELFIES cannot express it."""
        symbols = smiles_to_selfies(smiles)
        return len(symbols) <= self.length and {*symbols} <= {*self._token_of}

    def symbols_in(self, row: Int[Tensor, " length"]) -> tuple[str, ...]:
        """The symbols of a row before its first end token."""
        tokens = row.tolist()
        end = tokens.index(END) if END in tokens else len(tokens)
        return tuple(self.symbols[token - 1] for token in tokens[:end])

    def decode(self, row: Int[Tensor, " length"]) -> str:
        """The canonical SMILES of the longest prefix of a row that `encode` accepts again.

        Where no prefix is accepted, as for some ions whose canonical form needs other symbols from
        the first atom on, the longest prefix that is a molecule.
        """
        symbols = self.symbols_in(row)
        for length in range(len(symbols), 0, -1):
            smiles = selfies_to_smiles(symbols[:length])
            if smiles is not None:
                with suppress(ValueError):
                    if self._has_room_for(smiles):
                        return smiles
        return longest_valid_prefix(symbols)

    def can_start(self) -> Bool[Tensor, " token"]:
        """True for tokens that are a molecule by themselves; a row that starts so is not empty."""
        return self.atomic_numbers() > 0

    def atomic_numbers(self) -> Int[Tensor, " token"]:
        """The atomic number of the element of each token; 0 for tokens without an element."""
        smiles = [selfies_to_smiles((symbol,)) for symbol in self.symbols]
        numbers = [parse_smiles(s).GetAtomWithIdx(0).GetAtomicNum() if s else 0 for s in smiles]
        return torch.tensor([0, *numbers])

    def index_lengths(self) -> Int[Tensor, " token"]:
        """How many of the tokens after each are read as its size, and not as atoms.

        The digit of a branch or ring symbol: two symbols write the size of "[=Branch2]".
        """
        sizes = [int(s[-2]) if "Branch" in s or "Ring" in s else 0 for s in self.symbols]
        return torch.tensor([0, *sizes])
