"""Molecules as a modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pydantic import Field, JsonValue, PositiveInt
from torch import Tensor

from mld_core import Autoencoder, Classifier, Metric, Modality, ModalityConfig, SplitName
from mld_molecule.examples import draw
from mld_molecule.metrics import molecule_metrics
from mld_molecule.networks import SymbolAutoencoder, SymbolClassifier
from mld_molecule.selfies_rdkit import canonical_smiles, draw_svg, selfies_symbols
from mld_molecule.selfies_vocabulary import BASE_SYMBOLS, Alphabet


class MoleculeConfig(ModalityConfig):
    """What a spec may say of a molecule."""

    max_symbols: PositiveInt | None = Field(
        default=None,
        description="SELFIES symbols in the longest molecule; left out: those of the longest in"
        " training, a tenth more and at least four more",
    )


class Molecule(Modality):
    """Small molecules, learnt as SELFIES, so that every sample is one.

    `raw` is a SMILES; `read` gives the canonical one. An item
    is a row of token ids over the symbols seen in training and those of everyday chemistry.
    """

    kind = "molecule"
    Config = MoleculeConfig
    inline = True
    config: MoleculeConfig

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[str]) -> dict[str, JsonValue]:
        """The SELFIES symbols of the training molecules, and how many the longest has."""
        seen = [selfies_symbols(smiles) for smiles in raw]
        if not seen:
            raise ValueError("there are no molecules to learn the SELFIES alphabet from")
        return {"symbols": sorted({*BASE_SYMBOLS}.union(*seen)), "longest": max(map(len, seen))}

    def read(self, source: Path | str) -> str:
        """The canonical SMILES of the first word of a cell, or of a .smi or .txt file."""
        text = source if isinstance(source, str) else source.read_text(encoding="utf-8")
        if not text.strip():
            raise ValueError(f"a SMILES is expected, and nothing stands in {str(source)!r}")
        return canonical_smiles(text.split(maxsplit=1)[0])

    def preprocess(self, raw: str) -> Int[Tensor, " length"]:
        """The row of token ids of a SMILES; the end, 0, fills what is left."""
        return self._alphabet.tokens(raw)

    def autoencoder(self) -> Autoencoder:
        """Perceptrons around a latent on a sphere; all symbols are decoded at once."""
        return SymbolAutoencoder(self._alphabet, self.config.latent_dim)

    def classifier(self, classes: int) -> Classifier:
        """A perceptron on sums of symbols in context."""
        return SymbolClassifier(len(self._alphabet.symbols) + 1, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Validity, variety, novelty, drug-likeness, ease of synthesis, and what matches."""
        return molecule_metrics(self._alphabet)

    def write(self, x: Int[Tensor, " length"], stem: Path) -> Path:
        """The canonical SMILES in a .smi file."""
        path = stem.with_name(f"{stem.name}.smi")
        path.write_text(f"{self.cell(x)}\n", encoding="utf-8")
        return path

    def cell(self, x: Int[Tensor, " length"]) -> str:
        """The canonical SMILES."""
        return self._alphabet.smiles(x)

    def preview(self, x: Int[Tensor, " length"], stem: Path) -> list[Path]:
        """The drawn structure, as SVG."""
        path = stem.with_name(f"{stem.name}.svg")
        path.write_text(draw_svg(self.cell(x)), encoding="utf-8")
        return [path]

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[str]:
        """Molecules with as many carbon atoms as the label says."""
        return draw(labels, split, rng)

    @cached_property
    def _alphabet(self) -> Alphabet:
        facts: Any = self.facts
        length = self.config.max_symbols
        if length is None:
            length = facts["longest"] + max(4, facts["longest"] // 10)
        return Alphabet(tuple(facts["symbols"]), length)
