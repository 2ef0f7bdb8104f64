"""Imputation of tables of numbers and categories, beside imputers of scikit-learn.

    python benchmarks/tables.py [--tables wine diabetes] [--seeds 0 1 2] [--folder runs/tables]

Of scikit-learn's tables diabetes, wine and breast cancer, 30 % of all cells are hidden at random.
Every method learns from the rows outside the test split, with their gaps, and fills the gaps of the
test rows, a fifth of all. Numbers are in standard deviations of the training rows. A finished run
of mld is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64

import mld
from mld.config.spec import load_spec
from mld.inference.impute import read_filled
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry
from mld_table.draw_metrics import crps, interval_coverage, interval_width

HIDDEN_SHARE = 0.3
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
DRAWS = 64
SPEC = """\
name: {name}
seed: {seed}
data: {{kind: manifest, path: rows.csv}}
modalities:
{modalities}
diffuse: {diffuse}
generate: {{num_samples: 10, num_previews: 1, subsets: [[]], draws: 1}}
compute: {{threads: 1}}
"""
DIFFUSION = (
    "{network: {kind: residual-mlp, width: 64, depth: 2, dropout: 0.2}, "
    "steps: 1500, batch_size: 256}"
)
GAUSSIAN = "{method: gaussian}"
NUMBER, CATEGORY = "{kind: number, scale: quantile}", "{kind: category}"

Values = Float64[np.ndarray, "row column"]
Hidden = Bool[np.ndarray, "row column"]
Draws = Float64[np.ndarray, "draw row column"]


@dataclass(frozen=True)
class Problem:
    """A table with hidden cells.

    Args:
        values: complete; categories are numbered from 0.
        is_category: of each column.
        hidden: the cells that no method sees.
        split: of each row, "train", "validation" or "test".
    """

    name: str
    seed: int
    values: Values
    is_category: Bool[np.ndarray, " column"]
    hidden: Hidden
    split: np.ndarray

    @classmethod
    def make(cls, name: str, seed: int) -> Problem:
        """A table of scikit-learn with hidden cells, drawn from a seed."""
        from sklearn import datasets

        load = {
            "diabetes": lambda: datasets.load_diabetes(scaled=False),
            "wine": datasets.load_wine,
            "breast-cancer": datasets.load_breast_cancer,
        }[name]
        bunch = load()
        values = np.column_stack([bunch.data, bunch.target]).astype(np.float64)
        is_category = np.zeros(values.shape[1], dtype=bool)
        if name == "diabetes":
            sex = list(bunch.feature_names).index("sex")
            is_category[sex] = True
            values[:, sex] -= values[:, sex].min()
        else:
            is_category[-1] = True  # the class
        rng = np.random.default_rng(seed)
        split = np.full(len(values), "train", dtype=object)
        tests, validations = (
            round(share * len(values)) for share in (TEST_SHARE, VALIDATION_SHARE)
        )
        order = rng.permutation(len(values))
        split[order[:tests]] = "test"
        split[order[tests : tests + validations]] = "validation"
        hidden = rng.random(values.shape) < HIDDEN_SHARE
        hidden[hidden.all(1), 0] = False
        return cls(name, seed, values, is_category, hidden, split)

    @property
    def with_gaps(self) -> Values:
        """The values, NaN where hidden."""
        return np.where(self.hidden, np.nan, self.values)

    @property
    def test(self) -> Bool[np.ndarray, " row"]:
        """Which rows are tested."""
        return self.split == "test"

    @property
    def scale(self) -> Float64[np.ndarray, " column"]:
        """The standard deviation of each column in the other rows."""
        return np.nanstd(self.with_gaps[~self.test], axis=0)


@dataclass(frozen=True)
class Filled:
    """What a method makes of the test rows.

    Args:
        best: the point estimates.
        draws: of the predictive distribution; None if the method has none.
    """

    best: Values
    draws: Draws | None = None


def fill_by_sklearn(imputer: str, problem: Problem) -> Filled:
    """An imputer of scikit-learn, on standardised columns; categories are numbers to it."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
    from sklearn.preprocessing import StandardScaler

    forest = RandomForestRegressor(100, random_state=problem.seed)
    model, draws_model = {
        "mean": (SimpleImputer(), None),
        "nearest neighbours": (KNNImputer(), None),
        "iterative ridge": (
            IterativeImputer(max_iter=20, random_state=problem.seed),
            IterativeImputer(max_iter=20, random_state=problem.seed, sample_posterior=True),
        ),
        "iterative forest": (IterativeImputer(forest, max_iter=5, random_state=problem.seed), None),
    }[imputer]
    known, gaps = problem.with_gaps[~problem.test], problem.with_gaps[problem.test]
    scaler = StandardScaler().fit(known)

    def fill(rows: Values) -> Values:
        filled: Values = scaler.inverse_transform(rows)
        return filled

    best = fill(model.fit(scaler.transform(known)).transform(scaler.transform(gaps)))
    if draws_model is None:
        return Filled(best)
    draws_model.fit(scaler.transform(known))
    drawn = [fill(draws_model.transform(scaler.transform(gaps))) for _ in range(DRAWS)]
    return Filled(best, np.stack(drawn))


def fill_by_mld(diffuse: str, problem: Problem, folder: Path) -> Filled:
    """A run of mld, and its `impute`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"c{column}" for column in range(problem.values.shape[1])]
    _write_rows(folder / "rows.csv", problem, names, np.ones(len(problem.values), dtype=bool))
    _write_rows(folder / "test.csv", problem, names, problem.test)
    kinds = [
        "{kind: category}" if each else "{kind: number, scale: quantile}"
        for each in problem.is_category
    ]
    modalities = "\n".join(f"  {name}: {kind}" for name, kind in zip(names, kinds, strict=True))
    spec_file = folder / "spec.yaml"
    spec_file.write_text(
        SPEC.format(name=problem.name, seed=problem.seed, modalities=modalities, diffuse=diffuse)
    )
    registry = Registry()
    spec = load_spec(spec_file, registry)
    run(spec, RunDir(folder / "run"), registry, store=WeightStore(folder / "store"))
    finished = mld.load(folder / "run")
    mld.impute(finished, folder / "test.csv", folder / "filled", DRAWS, held_out=0)
    best = problem.with_gaps[problem.test]
    draws = np.repeat(best[None], DRAWS, axis=0)
    row_of = {f"r{row}": index for index, row in enumerate(np.flatnonzero(problem.test))}
    for cell in read_filled(folder / "filled"):
        place = row_of[cell["id"]], names.index(cell["modality"])
        best[place] = _number(cell["estimate"])
        draws[(slice(None), *place)] = [_number(each) for each in cell["alternatives"]]
    return Filled(best, draws)


def _write_rows(path: Path, problem: Problem, names: Sequence[str], rows: np.ndarray) -> None:
    def cell(column: int, value: float) -> str:
        if np.isnan(value):
            return ""
        return f"v{value:.0f}" if problem.is_category[column] else repr(float(value))

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *names])
        for row in np.flatnonzero(rows):
            cells = [cell(column, value) for column, value in enumerate(problem.with_gaps[row])]
            writer.writerow([f"r{row}", problem.split[row], *cells])


def _number(cell: str) -> float:
    return float(cell.removeprefix("v"))


@dataclass(frozen=True)
class Score:
    """How well hidden cells of test rows are filled; numbers in standard deviations.

    Args:
        coverage, width: of 80 % intervals.
    """

    rmse: float
    crps: float
    coverage: float
    width: float
    error_rate: float


def score(problem: Problem, filled: Filled) -> Score:
    """Pooled over the columns; NaN where a method has no draws."""
    truth, hidden = problem.values[problem.test], problem.hidden[problem.test]
    numbers, categories = hidden & ~problem.is_category, hidden & problem.is_category
    scale = np.broadcast_to(problem.scale, truth.shape)[numbers]
    errors = (filled.best - truth)[numbers] / scale
    is_off = np.rint(filled.best) != truth
    of_draws = [np.nan] * 3
    if filled.draws is not None:
        draws = torch.from_numpy((filled.draws[:, numbers] / scale).T[:, :, None])
        y = torch.from_numpy((truth[numbers] / scale)[:, None])
        of_draws = [measure(draws, y) for measure in (crps, interval_coverage, interval_width)]
    rmse = np.sqrt((errors**2).mean())
    return Score(float(rmse), *of_draws, float(is_off[categories].mean()))


Method = Callable[[Problem, Path], Filled]
METHODS: dict[str, Method] = {
    "mld": lambda problem, folder: fill_by_mld(DIFFUSION, problem, folder / "mld"),
    "joint Gaussian in mld": lambda problem, folder: fill_by_mld(
        GAUSSIAN, problem, folder / "gaussian"
    ),
    **{
        name: lambda problem, _, name=name: fill_by_sklearn(name, problem)
        for name in ("mean", "nearest neighbours", "iterative ridge", "iterative forest")
    },
}


def rows_of(tables: Sequence[str], seeds: Sequence[int], folder: Path) -> Iterator[str]:
    """The lines of a Markdown table, one for each table and method, mean over seeds."""
    yield "| table | method | RMSE | CRPS | 80 % intervals hold | width | wrong categories | s |"
    yield "|---|---|---|---|---|---|---|---|"
    for table in tables:
        for name, method in METHODS.items():
            scores, seconds = [], 0.0
            for seed in seeds:
                problem, start = Problem.make(table, seed), time.perf_counter()
                filled = method(problem, folder / table / str(seed))
                seconds += time.perf_counter() - start
                scores.append([*vars(score(problem, filled)).values()])
            cells = [
                "–" if np.isnan(values).any() else f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
                for values in np.array(scores).T
            ]
            yield f"| {table} | {name} | {' | '.join(cells)} | {seconds / len(seeds):.0f} |"


def main() -> None:
    """Print the table as it is computed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", nargs="+", default=["diabetes", "wine", "breast-cancer"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/tables"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "unused column|.*early stopping criterion|.*lowest at step")
    for line in rows_of(arguments.tables, arguments.seeds, arguments.folder):
        print(line, flush=True)


if __name__ == "__main__":
    main()
