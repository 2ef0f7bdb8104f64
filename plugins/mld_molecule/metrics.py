"""What makes molecules good: validity, variety, novelty, drug-likeness, matching distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
from rdkit import RDConfig, rdBase
from rdkit.Chem import QED, Crippen, Descriptors
from torch import Tensor

from mld_core import Metric
from mld_molecule.selfies_rdkit import REMEMBERED, parse, selfies_smiles
from mld_molecule.selfies_vocabulary import Alphabet

Property = Callable[[str], float]


@lru_cache(maxsize=REMEMBERED)
def drug_likeness(smiles: str) -> float:
    """QED, from 0 to 1 (Bickerton et al. 2012)."""
    with rdBase.BlockLogs():
        return float(QED.qed(parse(smiles)))


@lru_cache(maxsize=REMEMBERED)
def synthetic_accessibility(smiles: str) -> float:
    """SA score, from 1 (easy to make) to 10 (hard) (Ertl and Schuffenhauer 2009)."""
    return float(_sascorer().calculateScore(parse(smiles)))


@lru_cache(maxsize=REMEMBERED)
def weight(smiles: str) -> float:
    """Average molecular weight in daltons."""
    return float(Descriptors.MolWt(parse(smiles)))


@lru_cache(maxsize=REMEMBERED)
def log_p(smiles: str) -> float:
    """Estimated octanol-water partition coefficient (Wildman and Crippen 1999)."""
    return float(Crippen.MolLogP(parse(smiles)))


@cache
def _sascorer() -> ModuleType:
    """The scorer that rdkit ships among its contributions, outside its package."""
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = spec_from_file_location("rdkit_sascorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distribution_overlap(values: Sequence[float], others: Sequence[float]) -> float:
    """One minus the Kolmogorov-Smirnov statistic of two samples: 1 where they spread alike."""
    at = np.concatenate([values, others])
    below, others_below = (
        np.searchsorted(np.sort(sample), at, side="right") / len(sample)
        for sample in (values, others)
    )
    return float(1 - np.abs(below - others_below).max())


def molecule_metrics(alphabet: Alphabet) -> Mapping[str, Metric]:
    """The metrics of rows over an alphabet, by name."""

    def smiles(rows: Tensor) -> list[str]:
        if not len(rows):
            raise ValueError("there are no molecules to measure")
        return [alphabet.smiles(row) for row in rows]

    def validity(items: Tensor, _: Tensor) -> float:
        whole = [selfies_smiles(alphabet.written(row)) for row in items]
        return sum(found is not None for found in whole) / len(smiles(items))

    def uniqueness(items: Tensor, _: Tensor) -> float:
        found = smiles(items)
        return len(set(found)) / len(found)

    def novelty(items: Tensor, train: Tensor) -> float:
        found = set(smiles(items))
        return len(found - set(smiles(train))) / len(found)

    def exact_match(items: Tensor, originals: Tensor) -> float:
        pairs = zip(smiles(items), smiles(originals), strict=True)
        return float(np.mean([one == other for one, other in pairs]))

    def mean(of: Property) -> Callable[[Tensor, Tensor], float]:
        return lambda items, _: float(np.mean([of(found) for found in smiles(items)]))

    def overlap(of: Property) -> Callable[[Tensor, Tensor], float]:
        return lambda items, test: distribution_overlap(
            [of(found) for found in smiles(items)], [of(found) for found in smiles(test)]
        )

    return {
        "validity": Metric(validity, "none", "higher", best=1.0),
        "uniqueness": Metric(uniqueness, "none", "higher", best=1.0),
        "novelty": Metric(novelty, "train", "higher", best=1.0),
        "qed": Metric(mean(drug_likeness), "none", "higher", best=1.0),
        "sa_score": Metric(mean(synthetic_accessibility), "none", "lower", best=1.0),
        "weight_overlap": Metric(overlap(weight), "test", "higher", best=1.0),
        "logp_overlap": Metric(overlap(log_p), "test", "higher", best=1.0),
        "exact_match": Metric(exact_match, "originals", "higher", best=1.0),
    }
