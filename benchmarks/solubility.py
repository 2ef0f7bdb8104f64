"""Solubilities of molecules, estimated from the molecule, beside random forests on fingerprints.

    python benchmarks/solubility.py FOLDER [--seeds 0 1 2] [--runs runs/solubility] [--validation]

FOLDER holds delaney-processed.csv, the 1,128 measured solubilities of ESOL. A fifth of the cells
(name, SMILES, solubility) of the rows that are learnt from are empty. In the test rows, a fifth of
all, the solubility is, and is estimated from name and SMILES; then a molecule is drawn given the
other two. The forests see the same rows that have both a molecule and a solubility: one for the
estimate, and one whose leaves hold at least five rows for quantiles (Meinshausen 2006). The
guidance of mld is below 0, which widens its samples; nothing else is recalibrated. `--validation`
estimates the validation rows, by which the settings were chosen. A finished run is not trained
again.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

import mld
from mld.config.spec import load_spec
from mld.inference.impute import read_filled
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry

COLUMNS = {
    "name": "Compound ID",
    "smiles": "smiles",
    "solubility": "measured log solubility in mols per litre",
}
EMPTY_SHARE = 0.2
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
DRAWS = 64
GUIDANCE = -0.3
"""Below 0: a network of some 700 rows is too sure."""
SPEC = """\
name: solubility
seed: {seed}
data: {{kind: manifest, path: rows.csv, on_invalid: empty}}
modalities:
  name: {{kind: text, latent_dim: 12, max_bytes: 80}}
  smiles: {{kind: molecule, latent_dim: 24, unknown: skip}}
  solubility: {{kind: number, unit: log mol/L}}
autoencode:
  batch_size: 64
  learning_rate: 2e-3
  overrides: {{name: {{steps: 600}}, smiles: {{steps: 2000}}}}
diffuse:
  network: {{kind: residual-mlp, width: 128, depth: 2, dropout: 0.2}}
  steps: 1000
  batch_size: 256
generate: {{num_samples: 100, num_previews: 4, subsets: [[], [name, smiles], [name, solubility]]}}
compute: {{threads: 1}}
"""


@dataclass(frozen=True)
class Problem:
    """The solubilities of ESOL with hidden cells.

    Args:
        cells: name, SMILES and solubility of each row, as text.
        empty: which of them no method sees; none of rows that are estimated.
        split: of each row, "train", "validation" or "test".
        estimated: the split of which solubilities are estimated.
    """

    cells: list[list[str]]
    empty: Bool[np.ndarray, "row column"]
    split: np.ndarray
    estimated: str

    @classmethod
    def read(cls, file: Path, seed: int, estimated: str) -> Problem:
        """Read the file; splits and empty cells are drawn from the seed."""
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        cells = [[row[column].strip() for column in COLUMNS.values()] for row in rows]
        rng = np.random.default_rng(seed)
        split = np.full(len(cells), "train", dtype=object)
        tests, validations = (round(share * len(cells)) for share in (TEST_SHARE, VALIDATION_SHARE))
        order = rng.permutation(len(cells))
        split[order[:tests]] = "test"
        split[order[tests : tests + validations]] = "validation"
        empty = rng.random((len(cells), len(COLUMNS))) < EMPTY_SHARE
        empty[split == estimated] = False
        return cls(cells, empty, split, estimated)

    @property
    def truth(self) -> Float64[np.ndarray, " row"]:
        """The solubilities that are estimated."""
        return np.array([float(self.cells[row][2]) for row in self.rows(self.estimated)])

    def rows(self, *splits: str) -> list[int]:
        """The indices of the rows of splits."""
        return [row for row, split in enumerate(self.split) if split in splits]


@dataclass(frozen=True)
class Estimates:
    """Estimates of solubilities.

    Args:
        best: point estimates.
        quantiles: of the predictive distribution, equally probable; or draws from it.
        low, high: the ends of 80 % intervals.
    """

    best: Float64[np.ndarray, " row"]
    quantiles: Float64[np.ndarray, "quantile row"]
    low: Float64[np.ndarray, " row"]
    high: Float64[np.ndarray, " row"]
    are_draws: bool


def estimate_by_mld(problem: Problem, seed: int, folder: Path) -> tuple[Estimates, float]:
    """Estimates by mld, and the share of valid ones among molecules given name and solubility."""
    from rdkit import Chem

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(SPEC.format(seed=seed))
    everything = problem.rows("train", "validation", "test")
    _write(folder / "rows.csv", problem, everything, problem.empty)
    rows = problem.rows(problem.estimated)
    for name, column in (("solubility", 2), ("smiles", 1)):
        gaps = np.zeros_like(problem.empty)
        gaps[:, column] = True
        _write(folder / f"without-{name}.csv", problem, rows, gaps)
    registry = Registry()
    spec = load_spec(folder / "spec.yaml", registry)
    run(spec, RunDir(folder / "run"), registry, store=WeightStore(folder / "store"))
    finished = mld.load(folder / "run")
    filled = {}
    for name, n in (("solubility", DRAWS), ("smiles", 1)):
        out = folder / f"filled-{name}"
        manifest = folder / f"without-{name}.csv"
        mld.impute(finished, manifest, out, n, want=[name], held_out=0, guidance=GUIDANCE)
        filled[name] = read_filled(out)
    cells = {cell["id"]: cell for cell in filled["solubility"]}
    ordered = [cells[f"r{row}"] for row in rows]
    draws = np.array([[float(draw) for draw in cell["alternatives"]] for cell in ordered]).T
    best, low, high = (
        np.array([cell["summary"][figure] for cell in ordered])
        for figure in ("median", "p10", "p90")
    )
    valid = [Chem.MolFromSmiles(cell["estimate"]) is not None for cell in filled["smiles"]]
    return Estimates(best, draws, low, high, are_draws=True), float(np.mean(valid))


def _write(path: Path, problem: Problem, rows: Sequence[int], empty: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *COLUMNS])
        for row in rows:
            pairs = zip(problem.cells[row], empty[row], strict=True)
            cells = ["" if is_empty else cell for cell, is_empty in pairs]
            writer.writerow([f"r{row}", problem.split[row], *cells])


def estimate_by_forests(problem: Problem, seed: int) -> Estimates:
    """Estimates by a random forest on Morgan fingerprints, quantiles by another."""
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator
    from sklearn.ensemble import RandomForestRegressor

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)

    def fingerprints(rows: Sequence[int]) -> np.ndarray:
        molecules = [Chem.MolFromSmiles(problem.cells[row][1]) for row in rows]
        return np.array([generator.GetFingerprintAsNumPy(molecule) for molecule in molecules])

    learnt = ["train"] if problem.estimated == "validation" else ["train", "validation"]
    known = [row for row in problem.rows(*learnt) if not problem.empty[row, 1:].any()]
    x, y = fingerprints(known), np.array([float(problem.cells[row][2]) for row in known])
    of_rows = fingerprints(problem.rows(problem.estimated))
    best = RandomForestRegressor(500, random_state=seed).fit(x, y).predict(of_rows)
    forest = RandomForestRegressor(500, min_samples_leaf=5, random_state=seed).fit(x, y)
    weights = np.zeros((len(of_rows), len(x)))
    for leaves, known_leaves in zip(forest.apply(of_rows).T, forest.apply(x).T, strict=True):
        shared = leaves[:, None] == known_leaves
        weights += shared / shared.sum(1, keepdims=True)
    order = np.argsort(y)
    cumulative = (weights / len(forest.estimators_))[:, order].cumsum(1)

    def quantile(level: float) -> Float64[np.ndarray, " row"]:
        return y[order][(cumulative >= level - 1e-12).argmax(1)]

    levels = (np.arange(DRAWS) + 0.5) / DRAWS
    quantiles = np.array([quantile(level) for level in levels])
    return Estimates(best, quantiles, quantile(0.1), quantile(0.9), are_draws=False)


def scores(estimates: Estimates, truth: Float64[np.ndarray, " row"]) -> list[float]:
    """MAE, CRPS, and coverage and mean width of 80 % intervals."""
    n = len(estimates.quantiles)
    pairs = n * (n - 1) if estimates.are_draws else n * n
    ordered = np.sort(estimates.quantiles, axis=0)
    spread = ((2 * np.arange(1, n + 1) - n - 1)[:, None] * ordered).sum(0) / pairs
    crps = np.abs(estimates.quantiles - truth).mean(0) - spread
    held = (estimates.low <= truth) & (truth <= estimates.high)
    width = estimates.high - estimates.low
    errors = np.abs(estimates.best - truth)
    return [float(each.mean()) for each in (errors, crps, held, width)]


def main() -> None:
    """Print the table as it is computed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/solubility"))
    parser.add_argument("--validation", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    estimated = "validation" if arguments.validation else "test"
    print("| seed | method | rows | MAE | CRPS | 80 % intervals hold | width | valid molecules |")
    print("|---|---|---|---|---|---|---|---|")
    pooled: dict[str, list[list[float]]] = {"mld": [], "forests": []}
    for seed in arguments.seeds:
        problem = Problem.read(arguments.folder / "delaney-processed.csv", seed, estimated)
        by_mld, valid = estimate_by_mld(problem, seed, arguments.runs / f"{estimated}-{seed}")
        by_forests = estimate_by_forests(problem, seed)
        for name, estimates in (("mld", by_mld), ("forests", by_forests)):
            row = scores(estimates, problem.truth)
            pooled[name].append(row)
            figures = " | ".join(f"{figure:.3f}" for figure in row)
            share = f"{valid:.3f}" if name == "mld" else "–"
            count = len(problem.truth)
            print(f"| {seed} | {name} | {count} | {figures} | {share} |", flush=True)
    for name, rows in pooled.items():
        figures = " | ".join(f"{figure:.3f}" for figure in np.mean(rows, axis=0))
        print(f"| all | {name} | | {figures} | |")


if __name__ == "__main__":
    main()
