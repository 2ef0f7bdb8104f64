"""A number about molecules, estimated from the molecule, beside random forests on fingerprints.

    python benchmarks/molecule_tables.py FOLDER [--table qm9] [--seeds 0 1 2] [--validation]

FOLDER holds the file of the table:

- esol: delaney-processed.csv, 1,128 measured solubilities, with names;
- qm9: qm9_smiles.csv.gz, of which 20,000 molecules are taken, with the octanol-water partition
  coefficient (Crippen's log P), the polar surface and the number of rings, computed by RDKit.

A fifth of the cells of the rows that are learnt from are empty. In the test rows, a fifth of all,
of which at most 500 are estimated, the number is, and is estimated from the rest; then a molecule
is drawn given the rest, and its own number, where RDKit computes it, compared with the given one:
"off by" is the mean absolute difference. The forests see the same rows that have both a molecule
and the number, and beside fingerprints the columns that are numbers: one for the estimate, and one
whose leaves hold at least five rows for quantiles (Meinshausen 2006). Guidance below 0, which
widens the samples of mld, is its only recalibration. `--validation` estimates the validation rows,
by which the settings were chosen. A finished run is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

import mld
from mld.config.spec import load_spec
from mld.inference.impute import read_filled
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry

EMPTY_SHARE = 0.2
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MAX_ESTIMATED = 500
DRAWS = 64
QM9_ROWS = 20_000

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Table:
    """A table of molecules, and how it is learnt.

    Args:
        read: the rows of its file in a folder: cells, as text, by column.
        compute: the number of a molecule of RDKit; None if it is measured.
        molecule, estimated: the columns of SMILES and of the number that is estimated.
        numbers: the columns that the forests see beside fingerprints.
        trees: in each forest.
        spec: of mld; `{seed}` stands for the seed.
        guidance: of mld's samples; below 0 where its network is too sure.
    """

    read: Callable[[Path], Rows]
    compute: Callable[[Any], float] | None
    molecule: str
    estimated: str
    numbers: tuple[str, ...]
    trees: int
    spec: str
    guidance: float


def read_esol(folder: Path) -> Rows:
    """Names, molecules and measured solubilities, log mol/L."""
    with (folder / "delaney-processed.csv").open(newline="", encoding="utf-8") as lines:
        return [
            {
                "name": row["Compound ID"].strip(),
                "smiles": row["smiles"].strip(),
                "solubility": row["measured log solubility in mols per litre"].strip(),
            }
            for row in csv.DictReader(lines)
        ]


def log_p(molecule: Any) -> float:
    """The logarithm of the octanol-water partition coefficient of a molecule of RDKit."""
    from rdkit.Chem import Crippen

    return float(Crippen.MolLogP(molecule))


def read_qm9(folder: Path, count: int = QM9_ROWS) -> Rows:
    """Always the same molecules, shuffled, and numbers that RDKit computes from them."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    with gzip.open(folder / "qm9_smiles.csv.gz", "rt", newline="", encoding="utf-8") as lines:
        smiles = [row["smiles"] for row in csv.DictReader(lines)]
    rows = []
    for index in np.random.default_rng(0).choice(len(smiles), count, replace=False):
        molecule = Chem.MolFromSmiles(smiles[index])
        rows.append(
            {
                "smiles": smiles[index],
                "logp": f"{log_p(molecule):.4f}",
                "surface": f"{rdMolDescriptors.CalcTPSA(molecule):.2f}",
                "rings": f"{rdMolDescriptors.CalcNumRings(molecule)}",
            }
        )
    return rows


TABLES = {
    "esol": Table(
        read=read_esol,
        compute=None,
        molecule="smiles",
        estimated="solubility",
        numbers=(),
        trees=500,
        guidance=-0.3,
        spec="""\
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
""",
    ),
    "qm9": Table(
        read=read_qm9,
        compute=log_p,
        molecule="smiles",
        estimated="logp",
        numbers=("surface", "rings"),
        trees=100,
        guidance=-0.1,
        spec="""\
name: partition
seed: {seed}
data: {{kind: manifest, path: rows.csv, on_invalid: empty}}
modalities:
  smiles: {{kind: molecule, latent_dim: 48, unknown: skip}}
  logp: {{kind: number}}
  surface: {{kind: number, scale: quantile, minimum: 0, unit: Å²}}
  rings: {{kind: category, unknown: other}}
autoencode: {{steps: 3000, learning_rate: 2e-3}}
diffuse:
  network: {{kind: residual-mlp, width: 256, depth: 3}}
  steps: 4000
  balance: 1
generate:
  num_samples: 100
  num_previews: 4
  subsets: [[], [smiles, surface, rings], [logp, surface, rings]]
compute: {{threads: 1}}
""",
    ),
}


@dataclass(frozen=True)
class Problem:
    """A table with hidden cells.

    Args:
        cells: of each row, by column, as text.
        empty: which of them no method sees; none of rows that are estimated.
        split: of each row, "train", "validation" or "test".
        estimated: the split of which the number is estimated.
    """

    table: Table
    cells: Rows
    empty: Bool[np.ndarray, "row column"]
    split: np.ndarray
    estimated: str

    @classmethod
    def make(cls, table: Table, cells: Rows, seed: int, estimated: str) -> Problem:
        """Draw splits and empty cells from the seed."""
        rng = np.random.default_rng(seed)
        split = np.full(len(cells), "train", dtype=object)
        tests, validations = (round(share * len(cells)) for share in (TEST_SHARE, VALIDATION_SHARE))
        order = rng.permutation(len(cells))
        split[order[:tests]] = "test"
        split[order[tests : tests + validations]] = "validation"
        empty = rng.random((len(cells), len(cells[0]))) < EMPTY_SHARE
        empty[split == estimated] = False
        return cls(table, cells, empty, split, estimated)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [*self.cells[0]]

    @property
    def estimated_rows(self) -> list[int]:
        """The indices of the rows whose number is estimated."""
        return self.rows(self.estimated)[:MAX_ESTIMATED]

    @property
    def truth(self) -> Float64[np.ndarray, " row"]:
        """The numbers that are estimated."""
        return self.numbers(self.table.estimated, self.estimated_rows)

    def rows(self, *splits: str) -> list[int]:
        """The indices of the rows of splits."""
        return [row for row, split in enumerate(self.split) if split in splits]

    def is_empty(self, column: str) -> Bool[np.ndarray, " row"]:
        """The rows whose cell is empty."""
        return self.empty[:, self.columns.index(column)]

    def numbers(self, column: str, rows: Sequence[int]) -> Float64[np.ndarray, " row"]:
        """A column of rows as numbers, NaN where empty."""
        is_empty = self.is_empty(column)
        return np.array(
            [np.nan if is_empty[row] else float(self.cells[row][column]) for row in rows]
        )


@dataclass(frozen=True)
class Estimates:
    """Estimates of a number.

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


def estimate_by_mld(problem: Problem, seed: int, folder: Path) -> tuple[Estimates, list[str]]:
    """Estimates by mld, and the SMILES of a molecule for each row, given the rest."""
    table = problem.table
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(table.spec.format(seed=seed), encoding="utf-8")
    everything = problem.rows("train", "validation", "test")
    _write(folder / "rows.csv", problem, everything, problem.empty)
    for name in (table.estimated, table.molecule):
        gaps = np.zeros_like(problem.empty)
        gaps[:, problem.columns.index(name)] = True
        _write(folder / f"without-{name}.csv", problem, problem.estimated_rows, gaps)
    registry = Registry()
    spec = load_spec(folder / "spec.yaml", registry)
    run(spec, RunDir(folder / "run"), registry, store=WeightStore(folder / "store"))
    finished = mld.load(folder / "run")
    filled = {}
    for name, n in ((table.estimated, DRAWS), (table.molecule, 1)):
        out = folder / f"filled-{name}"
        manifest = folder / f"without-{name}.csv"
        mld.impute(finished, manifest, out, n, want=[name], held_out=0, guidance=table.guidance)
        cells = {cell["id"]: cell for cell in read_filled(out)}
        filled[name] = [cells[f"r{row}"] for row in problem.estimated_rows]
    numbers = filled[table.estimated]
    draws = np.array([[float(draw) for draw in cell["alternatives"]] for cell in numbers]).T
    best, low, high = (
        np.array([cell["summary"][figure] for cell in numbers])
        for figure in ("median", "p10", "p90")
    )
    molecules = [cell["estimate"] for cell in filled[table.molecule]]
    return Estimates(best, draws, low, high, are_draws=True), molecules


def _write(path: Path, problem: Problem, rows: Sequence[int], empty: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *problem.columns])
        for row in rows:
            pairs = zip(problem.cells[row].values(), empty[row], strict=True)
            cells = ["" if is_empty else cell for cell, is_empty in pairs]
            writer.writerow([f"r{row}", problem.split[row], *cells])


def estimate_by_forests(problem: Problem, seed: int) -> Estimates:
    """Estimates by a random forest on Morgan fingerprints, quantiles by another."""
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator
    from sklearn.ensemble import RandomForestRegressor

    table = problem.table
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)

    def features(rows: Sequence[int]) -> Float32[np.ndarray, "row feature"]:
        molecules = [Chem.MolFromSmiles(problem.cells[row][table.molecule]) for row in rows]
        fingerprints = [generator.GetFingerprintAsNumPy(molecule) for molecule in molecules]
        numbers = [problem.numbers(column, rows) for column in table.numbers]
        return np.column_stack([np.array(fingerprints), *numbers]).astype(np.float32)

    learnt = ["train"] if problem.estimated == "validation" else ["train", "validation"]
    unknown = problem.is_empty(table.molecule) | problem.is_empty(table.estimated)
    known = [row for row in problem.rows(*learnt) if not unknown[row]]
    x, y = features(known), problem.numbers(table.estimated, known)
    of_rows = features(problem.estimated_rows)
    best = RandomForestRegressor(table.trees, random_state=seed).fit(x, y).predict(of_rows)
    forest = RandomForestRegressor(table.trees, min_samples_leaf=5, random_state=seed).fit(x, y)
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


def molecule_scores(
    table: Table, smiles: Sequence[str], given: Float64[np.ndarray, " row"]
) -> list[float]:
    """The share of valid molecules, and how far their numbers are from those that were given.

    The mean absolute difference; NaN if RDKit does not compute the number.
    """
    from rdkit import Chem

    molecules = [Chem.MolFromSmiles(each) for each in smiles]
    valid = np.array([molecule is not None for molecule in molecules])
    if table.compute is None:
        return [float(valid.mean()), np.nan]
    computed = np.array([table.compute(molecule) for molecule in molecules if molecule is not None])
    return [float(valid.mean()), float(np.abs(computed - given[valid]).mean())]


def table_line(seed: int | str, method: str, count: int | str, figures: Sequence[float]) -> str:
    """A line of the Markdown table; NaN is a dash."""
    cells = ["–" if np.isnan(figure) else f"{figure:.3f}" for figure in figures]
    return f"| {seed} | {method} | {count} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table as it is computed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", choices=TABLES, default="esol")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/molecule-tables"))
    parser.add_argument("--validation", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    table, runs = TABLES[arguments.table], arguments.runs / arguments.table
    estimated = "validation" if arguments.validation else "test"
    cells = table.read(arguments.folder)
    figures = "MAE | CRPS | 80 % intervals hold | width | valid molecules | off by"
    print(f"| seed | method | rows | {figures} |\n{9 * '|---'}|")
    pooled: dict[str, list[list[float]]] = {"mld": [], "forests": []}
    for seed in arguments.seeds:
        problem = Problem.make(table, cells, seed, estimated)
        truth = problem.truth
        by_mld, smiles = estimate_by_mld(problem, seed, runs / f"{estimated}-{seed}")
        pooled["mld"].append([*scores(by_mld, truth), *molecule_scores(table, smiles, truth)])
        print(table_line(seed, "mld", len(truth), pooled["mld"][-1]), flush=True)
        by_forests = estimate_by_forests(problem, seed)
        pooled["forests"].append([*scores(by_forests, truth), np.nan, np.nan])
        print(table_line(seed, "forests", len(truth), pooled["forests"][-1]), flush=True)
    for method, rows in pooled.items():
        print(table_line(f"mean of {len(rows)}", method, "", [*np.mean(rows, axis=0)]))


if __name__ == "__main__":
    main()
