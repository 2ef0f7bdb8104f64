"""The modality `molecule`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int
from numpy.random import Generator
from pydantic import Field, JsonValue, PositiveInt
from torch import Tensor

from mld_core import Metric, Modality, ModalityConfig, SplitName
from mld_molecule.example_molecules import sample_molecules
from mld_molecule.metrics import molecule_metrics
from mld_molecule.networks import MoleculeAutoencoder, MoleculeClassifier
from mld_molecule.selfies_rdkit import (
    canonical_smiles,
    draw_svg,
    largest_fragment,
    parse_smiles,
    scaffold,
    smiles_to_selfies,
)
from mld_molecule.selfies_vocabulary import BASE_SYMBOLS, SelfiesVocabulary

MAX_OUTLIER_RATIO = 4
"""How many times as long as 99 % of the molecules one may be for the networks to grow with it."""
MIN_OUTLIER_LENGTH = 100
"""SELFIES symbols from which on a molecule can be an outlier; the networks of fewer are small."""


class MoleculeConfig(ModalityConfig):
    """Settings of the modality `molecule`."""

    autoencoder_settings: ClassVar[frozenset[str]] = frozenset({"latent_dim"})

    latent_dim: PositiveInt = Field(description="width of the latent of one item")
    max_symbols: PositiveInt | None = Field(
        None,
        description="SELFIES symbols in the longest molecule; by default those of the longest"
        " training molecule that is not far longer than the others, plus 10 %, and at least 4 more",
    )
    fragments: Literal["keep", "largest", "error"] = Field(
        "keep",
        description="what to do with several molecules in one SMILES, such as salts: largest keeps"
        " the one of most heavy atoms",
    )
    unknown: Literal["error", "skip"] = Field(
        "error",
        description="what to do with SELFIES symbols that no training molecule has, such as rare"
        " atoms: skip reads the molecule without them",
    )


class Molecule(Modality):
    """Small molecules, learnt as SELFIES, so that every sample is a valid molecule.

    `raw` is a SMILES string; `read` returns the canonical one. An item is an int64 tensor of shape
    (max_symbols,): token ids over the SELFIES symbols of the training molecules and of common
    chemistry, then 0 to the end. The latent, of shape (latent_dim,), lies on the sphere of radius
    √latent_dim.
    """

    kind = "molecule"
    Config = MoleculeConfig
    inline = True
    config: MoleculeConfig

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[str]) -> dict[str, JsonValue]:
        """The SELFIES symbols of the training molecules, and the length of the longest.

        Molecules that are too long are left to `preprocess`, which names them.
        """
        molecules = [smiles_to_selfies(smiles) for smiles in raw]
        if not molecules:
            raise ValueError("there are no molecules to build the SELFIES vocabulary from")
        assert isinstance(config, MoleculeConfig)
        lengths = [*map(len, molecules)]
        if config.max_symbols is None:
            longest = _longest_but_outliers(lengths)
            limit = _room(longest)
        else:
            limit = config.max_symbols
            longest = min(limit, max(lengths))
        fitting = (molecule for molecule in molecules if len(molecule) <= limit)
        symbols = sorted({*BASE_SYMBOLS}.union(*fitting))
        return {"symbols": [*symbols], "longest": longest}

    def read(self, source: Path | str) -> str:
        """The canonical SMILES of the first word of a str, or of a path's file (.smi, .txt).

        Of several molecules in it, those that `fragments` keeps.
        """
        text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError(f"expected a SMILES, but {str(source)!r} is empty")
        smiles = canonical_smiles(text.split(maxsplit=1)[0])
        if self.config.fragments == "keep" or "." not in smiles:
            return smiles
        if self.config.fragments == "error":
            raise ValueError(
                f"{smiles!r} holds several molecules: set fragments to largest or keep"
            )
        return largest_fragment(smiles)

    def split_key(self, raw: str) -> str:
        """The Bemis-Murcko scaffold: rings, and what links them; "" of molecules without rings."""
        return scaffold(raw)

    def profile(self, raw: str) -> Mapping[str, int | Sequence[str]]:
        """Its length, atoms and fragments, and the symbols that are not in every vocabulary."""
        molecule = parse_smiles(raw)
        symbols = smiles_to_selfies(raw)
        return {
            "SELFIES symbols": len(symbols),
            "heavy atoms": molecule.GetNumHeavyAtoms(),
            "fragments": 1 + raw.count("."),
            "rarer symbols": sorted({*symbols} - {*BASE_SYMBOLS}),
        }

    def preprocess(self, raw: str) -> Int[Tensor, " length"]:
        """The row of token ids of a SMILES, padded with the end token 0."""
        return self._vocabulary.encode(raw)

    def autoencoder(self) -> MoleculeAutoencoder:
        """A new autoencoder: a perceptron encodes, and an autoregressive perceptron decodes."""
        return MoleculeAutoencoder(self._vocabulary, self.config.latent_dim)

    def classifier(self, classes: int) -> MoleculeClassifier:
        """A new perceptron on sums of symbols in context, with 64 features."""
        return MoleculeClassifier(len(self._vocabulary.symbols) + 1, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Of molecules, of their distributions, and of pairs: similarity and exact match."""
        return molecule_metrics(self._vocabulary)

    def write(self, x: Int[Tensor, " length"], stem: Path) -> Path:
        """Write the canonical SMILES into a .smi file."""
        path = stem.with_name(f"{stem.name}.smi")
        path.write_text(f"{self.cell(x)}\n", encoding="utf-8")
        return path

    def cell(self, x: Int[Tensor, " length"]) -> str:
        """The canonical SMILES."""
        return self._vocabulary.decode(x)

    def preview(self, x: Int[Tensor, " length"], stem: Path) -> list[Path]:
        """Draw the structural formula as an SVG file."""
        path = stem.with_name(f"{stem.name}.svg")
        path.write_text(draw_svg(self.cell(x)), encoding="utf-8")
        return [path]

    def examples(self, labels: Sequence[int], split: SplitName, rng: Generator) -> list[str]:
        """Molecules with as many carbon atoms as the label says."""
        return sample_molecules(labels, split, rng)

    @cached_property
    def _vocabulary(self) -> SelfiesVocabulary:
        facts: Mapping[str, Any] = self.facts
        length = self.config.max_symbols or _room(facts["longest"])
        return SelfiesVocabulary(tuple(facts["symbols"]), length, self.config.unknown == "skip")


def _room(longest: int) -> int:
    """The length of rows, if the longest training molecule has so many symbols."""
    return longest + max(4, longest // 10)


def _longest_but_outliers(lengths: list[int]) -> int:
    """The greatest length, without those few that would make the networks many times as large."""
    typical = int(np.percentile(lengths, 99, method="lower"))
    limit = max(MIN_OUTLIER_LENGTH, MAX_OUTLIER_RATIO * typical)
    longest = max(length for length in lengths if length <= limit)
    outliers = [length for length in lengths if length > _room(longest)]
    if outliers:
        warnings.warn(
            f"of {len(lengths):,} molecules, {len(outliers):,} need more than {_room(longest):,}"
            f" SELFIES symbols, up to {max(outliers):,}, but 99 % at most {typical:,}: they do not"
            " fit, because the networks grow with the longest, unless max_symbols:"
            f" {max(outliers)} accepts the cost",
            stacklevel=3,
        )
    return longest
