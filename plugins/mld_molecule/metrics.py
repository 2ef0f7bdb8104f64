"""Metrics of molecules: alone, beside their originals, and of their distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rdkit import RDConfig, rdBase
from rdkit.DataStructs import ExplicitBitVect, TanimotoSimilarity
from torch import Tensor

from mld_core import Metric
from mld_molecule.selfies_rdkit import MOLECULE_CACHE_SIZE, parse_smiles, selfies_to_smiles
from mld_molecule.selfies_vocabulary import SelfiesVocabulary

Property = Callable[[str], float]
"""A number of the molecule of a SMILES."""


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def drug_likeness(smiles: str) -> float:
    """QED, from 0 to 1 (Bickerton et al. 2012)."""
    from rdkit.Chem import QED

    with rdBase.BlockLogs():
        return float(QED.qed(parse_smiles(smiles)))


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def synthetic_accessibility(smiles: str) -> float:
    """SA score, from 1 (easy to make) to 10 (hard) (Ertl and Schuffenhauer 2009)."""
    return float(_sascorer().calculateScore(parse_smiles(smiles)))


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def molecular_weight(smiles: str) -> float:
    """Average molecular weight in daltons."""
    from rdkit.Chem import Descriptors

    return float(Descriptors.MolWt(parse_smiles(smiles)))  # type: ignore[attr-defined]


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def log_p(smiles: str) -> float:
    """Estimated octanol-water partition coefficient (Wildman and Crippen 1999)."""
    from rdkit.Chem import Crippen

    return float(Crippen.MolLogP(parse_smiles(smiles)))  # type: ignore[attr-defined]


@lru_cache(maxsize=MOLECULE_CACHE_SIZE)
def _fingerprint(smiles: str) -> ExplicitBitVect:
    fingerprint: ExplicitBitVect = _morgan_generator().GetFingerprint(parse_smiles(smiles))
    return fingerprint


@cache
def _morgan_generator() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


def tanimoto_similarity(smiles: str, other: str) -> float:
    """Tanimoto similarity of Morgan fingerprints of radius 2 and 2,048 bits, from 0 to 1."""
    return float(TanimotoSimilarity(_fingerprint(smiles), _fingerprint(other)))


@cache
def _sascorer() -> ModuleType:
    """The SA scorer that rdkit ships in its folder of contributions, outside its package."""
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = spec_from_file_location("rdkit_sascorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distribution_overlap(values: Sequence[float], others: Sequence[float]) -> float:
    """One minus the Kolmogorov-Smirnov statistic of two samples: 1 if their distributions agree."""
    points = np.concatenate([values, others])
    cdf, other_cdf = (
        np.searchsorted(np.sort(sample), points, side="right") / len(sample)
        for sample in (values, others)
    )
    return float(1 - np.abs(cdf - other_cdf).max())


def molecule_metrics(vocabulary: SelfiesVocabulary) -> Mapping[str, Metric]:
    """The metrics of rows over a vocabulary, by name."""

    def decode(rows: Tensor) -> list[str]:
        _check_not_empty(rows)
        return [vocabulary.decode(row) for row in rows]

    def validity(items: Tensor, _: Tensor) -> float:
        _check_not_empty(items)
        untruncated = [selfies_to_smiles(vocabulary.symbols_in(row)) for row in items]
        return sum(smiles is not None for smiles in untruncated) / len(items)

    def uniqueness(items: Tensor, _: Tensor) -> float:
        molecules = decode(items)
        return len(set(molecules)) / len(molecules)

    def novelty(items: Tensor, train: Tensor) -> float:
        molecules = set(decode(items))
        return len(molecules - set(decode(train))) / len(molecules)

    def exact_match(items: Tensor, originals: Tensor) -> float:
        pairs = zip(decode(items), decode(originals), strict=True)
        return float(np.mean([smiles == original for smiles, original in pairs]))

    def mean_similarity(items: Tensor, originals: Tensor) -> float:
        pairs = zip(decode(items), decode(originals), strict=True)
        return float(np.mean([tanimoto_similarity(smiles, original) for smiles, original in pairs]))

    def mean(of: Property) -> Callable[[Tensor, Tensor], float]:
        return lambda items, _: float(np.mean([of(smiles) for smiles in decode(items)]))

    def overlap(of: Property) -> Callable[[Tensor, Tensor], float]:
        return lambda items, test: distribution_overlap(
            [of(smiles) for smiles in decode(items)], [of(smiles) for smiles in decode(test)]
        )

    return {
        "validity": Metric(validity, "none", "higher", best=1.0),
        "uniqueness": Metric(uniqueness, "none", "higher", best=1.0),
        "novelty": Metric(novelty, "train", "higher", best=1.0),
        "qed": Metric(mean(drug_likeness), "none", "higher", best=1.0),
        "sa_score": Metric(mean(synthetic_accessibility), "none", "lower", best=1.0),
        "weight_overlap": Metric(overlap(molecular_weight), "test", "higher", best=1.0),
        "logp_overlap": Metric(overlap(log_p), "test", "higher", best=1.0),
        "tanimoto_similarity": Metric(
            mean_similarity, "truth", "higher", best=1.0, bounds=(0.0, 1.0)
        ),
        "exact_match": Metric(exact_match, "truth", "higher", best=1.0, bounds=(0.0, 1.0)),
    }


def _check_not_empty(rows: Tensor) -> None:
    if not len(rows):
        raise ValueError("there are no molecules to measure")
