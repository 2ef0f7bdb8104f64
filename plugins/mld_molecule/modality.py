"""The modality `molecule`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

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
    scaffold,
    smiles_to_selfies,
)
from mld_molecule.selfies_vocabulary import BASE_SYMBOLS, SelfiesVocabulary

MAX_OUTLIER_RATIO = 4
"""How many times as long as 99 % of the molecules the longest may be without a word."""
MIN_OUTLIER_LENGTH = 100
"""SELFIES symbols from which on a molecule can be an outlier; the networks of fewer are small."""


class MoleculeConfig(ModalityConfig):
    """Settings of the modality `molecule`."""

    max_symbols: PositiveInt | None = Field(
        None,
        description="SELFIES symbols in the longest molecule; by default those of the longest"
        " training molecule plus 10 %, and at least 4 more",
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
        """The SELFIES symbols of the training molecules, and the length of the longest."""
        molecules = [smiles_to_selfies(smiles) for smiles in raw]
        if not molecules:
            raise ValueError("there are no molecules to build the SELFIES vocabulary from")
        assert isinstance(config, MoleculeConfig)
        if config.max_symbols is None:
            _check_longest(molecules)
        symbols = sorted({*BASE_SYMBOLS}.union(*molecules))
        return {"symbols": [*symbols], "longest": max(map(len, molecules))}

    def read(self, source: Path | str) -> str:
        """The canonical SMILES of the first word of a str, or of a path's file (.smi, .txt)."""
        text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError(f"expected a SMILES, but {str(source)!r} is empty")
        return canonical_smiles(text.split(maxsplit=1)[0])

    def split_key(self, raw: str) -> str:
        """The Bemis-Murcko scaffold: rings, and what links them; "" of molecules without rings."""
        return scaffold(raw)

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
        length = self.config.max_symbols
        if length is None:
            length = facts["longest"] + max(4, facts["longest"] // 10)
        return SelfiesVocabulary(tuple(facts["symbols"]), length)


def _check_longest(molecules: list[tuple[str, ...]]) -> None:
    """ValueError if one molecule in a hundred makes the networks many times as large."""
    lengths = [*map(len, molecules)]
    longest, typical = max(lengths), int(np.percentile(lengths, 99, method="lower"))
    if longest > max(MIN_OUTLIER_LENGTH, MAX_OUTLIER_RATIO * typical):
        raise ValueError(
            f"the longest molecule has {longest:,} SELFIES symbols "
            f"({''.join(max(molecules, key=len)[:8])}...), but 99 % have at most {typical:,}, and "
            "the networks grow with the longest: leave it out, or accept the cost with "
            f"max_symbols: {longest}"
        )
