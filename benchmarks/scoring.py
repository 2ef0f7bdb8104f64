"""What a finished run on labelled, complete test rows can score: python benchmarks/scoring.py RUN.

Prints one JSON object: how well scores detect mispaired rows (area under the ROC curve), how often
imputed cells show the label of their row, and mutual information beside that of the labels.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import mld
from mld.data.loading import Data, SplitRows, open_dataset
from mld.inference.impute import read_filled
from mld.inference.manifest import ManifestRows
from mld.inference.trained_run import TrainedRun
from mld_core import Registry

SEEDS = 5
MISPAIRED_FRACTION = 0.05
MISSING_RATE = 0.4


def manifest_rows(
    ids: tuple[str, ...], items: dict[str, Tensor], present: Tensor, path: Path
) -> ManifestRows:
    """Rows in memory as if read from a manifest; `path` is written, as its digest is taken."""
    path.write_text(json.dumps(present.long().tolist()))
    no_cells: tuple[dict[str, Any], ...] = ({},) * len(ids)
    return ManifestRows(path, (), no_cells, ids, items, present, ("",) * len(ids))


def mispaired(run: TrainedRun, rows: SplitRows, folder: Path) -> dict[str, Any]:
    """Areas under the ROC curve of two scores for mispaired rows, by seed and in the mean.

    In a mispaired row one modality's item is that of a row with another label. The score of a row
    does not depend on the other rows, so true rows and the mispaired ones of all seeds are scored
    together, each once.
    """
    assert rows.labels is not None
    count, names = len(rows.ids), list(run.modalities)
    mispaired_rows = []
    items = {name: [x] for name, x in rows.items.items()}
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(count, generator=generator)[: round(MISPAIRED_FRACTION * count)]
        changed = {name: x[chosen].clone() for name, x in rows.items.items()}
        for index, row in enumerate(chosen.tolist()):
            name = names[int(torch.randint(len(names), (1,), generator=generator))]
            others = torch.nonzero(rows.labels != rows.labels[row]).squeeze(1)
            pick = others[torch.randint(len(others), (1,), generator=generator)]
            changed[name][index] = rows.items[name][pick][0]
        for name in names:
            items[name].append(changed[name])
        mispaired_rows.append(chosen)
    all_items = {name: torch.cat(parts) for name, parts in items.items()}
    total = len(all_items[names[0]])
    ids = tuple(map(str, range(total)))
    present = torch.ones(total, len(names)).bool()
    scores = {"total correlation": torch.zeros(total), "mean pairwise PMI": torch.zeros(total)}
    manifest = manifest_rows(ids, all_items, present, folder / "mispaired.json")
    for row_score in mld.score(run, manifest):
        assert row_score.pointwise_total_correlation is not None
        assert row_score.mean_pairwise_pmi is not None
        scores["total correlation"][row_score.index] = row_score.pointwise_total_correlation.value
        scores["mean pairwise PMI"][row_score.index] = row_score.mean_pairwise_pmi.value
    areas: dict[str, list[float]] = {name: [] for name in scores}
    for seed, chosen in enumerate(mispaired_rows):
        start = count + seed * len(chosen)
        is_mispaired = torch.zeros(count).scatter(0, chosen, 1.0)
        for name, score in scores.items():
            mixed = score[:count].clone()
            mixed[chosen] = score[start : start + len(chosen)]
            areas[name].append(round(float(roc_auc_score(is_mispaired, -mixed)), 4))
    means = {f"mean, {name}": sum(by_seed) / SEEDS for name, by_seed in areas.items()}
    negative = float((scores["mean pairwise PMI"][:count] < 0).double().mean())
    return {**areas, **means, "true rows below zero": negative}


def imputed(run: TrainedRun, rows: SplitRows, folder: Path) -> dict[str, Any]:
    """The fraction of imputed cells classified as their row's label, if anything else was given."""
    assert rows.labels is not None
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(rows.present.shape, generator=generator) >= MISSING_RATE
    manifest = manifest_rows(rows.ids, dict(rows.items), present, folder / "gaps.jsonl")
    mld.impute(run, manifest, folder / "filled", 1, guidance=run.spec.generate.guidance)
    is_correct: dict[str, list[bool]] = {name: [] for name in run.modalities}
    row_of_id = {row_id: row for row, row_id in enumerate(rows.ids)}
    for entry in read_filled(folder / "filled"):
        if entry["joint"]:
            continue
        name, cell = entry["modality"], entry["alternatives"][0]
        modality = run.modalities[name]
        x = modality.preprocess(
            modality.read(cell if modality.inline else folder / "filled" / cell)
        )
        predicted = int(run.classifiers[name](x[None]).argmax(1))
        is_correct[name].append(predicted == int(rows.labels[row_of_id[entry["id"]]]))
    by_modality = {name: sum(correct) / len(correct) for name, correct in is_correct.items()}
    every = [correct for by_cell in is_correct.values() for correct in by_cell]
    return {"agreement": sum(every) / len(every), "cells": len(every), **by_modality}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = mld.load(parser.parse_args().run)
    data = Data(open_dataset(run.spec, Registry()), run.modalities)
    rows = data.test
    assert rows.labels is not None
    with TemporaryDirectory() as folder, torch.no_grad():
        results = {
            "mispaired": mispaired(run, rows, Path(folder)),
            "imputed": imputed(run, rows, Path(folder)),
            "information of the labels": math.log(len(rows.labels.unique())),
            "information": {
                name: [round(estimate.value, 3), round(estimate.standard_error, 3)]
                for name, estimate in mld.information(run).items()
            },
        }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
