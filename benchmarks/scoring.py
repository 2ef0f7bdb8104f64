"""What a finished run over labelled, complete test rows knows: python benchmarks/scoring.py RUN.

Prints how well scores find mispaired rows, mutual information beside that of the labels, and how
often filled cells show the label of their row. One JSON object on stdout.
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
from mld.data.loading import Data, SplitTensors, open_dataset
from mld.inference.impute import read_filled
from mld.inference.manifest import ManifestRows
from mld.inference.trained_run import TrainedRun
from mld_core import Registry

SEEDS = 5
MISPAIRED = 0.05
EMPTY = 0.4


def manifest_rows(
    rows: SplitTensors, items: dict[str, Tensor], present: Tensor, path: Path
) -> ManifestRows:
    """Test rows as if a manifest had listed them; `path` stands for its bytes."""
    path.write_text(json.dumps(present.long().tolist()))
    return ManifestRows(
        path, (), ({},) * len(rows.ids), rows.ids, items, present, ("",) * len(rows.ids)
    )


def mispaired(run: TrainedRun, rows: SplitTensors, folder: Path) -> dict[str, Any]:
    """Area under the ROC curve by seed, of the mean pairwise PMI and of the total correlation.

    A row's score does not depend on the others, so the true rows are scored once, and the
    mispaired ones of all seeds beside them.
    """
    assert rows.labels is not None
    count, names = len(rows.ids), list(run.modalities)
    chosen, items = [], {name: [x] for name, x in rows.items.items()}
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        bad = torch.randperm(count, generator=generator)[: round(MISPAIRED * count)]
        part = {name: x[bad].clone() for name, x in rows.items.items()}
        for place, row in enumerate(bad.tolist()):
            name = names[int(torch.randint(len(names), (1,), generator=generator))]
            others = torch.nonzero(rows.labels != rows.labels[row]).squeeze(1)
            pick = others[torch.randint(len(others), (1,), generator=generator)]
            part[name][place] = rows.items[name][pick][0]
        for name in names:
            items[name].append(part[name])
        chosen.append(bad)
    whole = {name: torch.cat(parts) for name, parts in items.items()}
    total = len(whole[names[0]])
    ids = tuple(map(str, range(total)))
    longer = SplitTensors(ids, whole, torch.ones(total, len(names)).bool(), None)
    scores = mld.score(run, manifest_rows(longer, whole, longer.present, folder / "mispaired.json"))
    overall, pairs = torch.zeros(total), torch.zeros(total)
    for own in scores:
        assert own.pointwise_total_correlation is not None
        overall[own.index] = own.pointwise_total_correlation[0]
        assert own.mean_pairwise_pmi is not None
        pairs[own.index] = own.mean_pairwise_pmi[0]
    areas: dict[str, list[float]] = {"total correlation": [], "mean pairwise PMI": []}
    for seed, bad in enumerate(chosen):
        first = count + seed * len(bad)
        for title, score in (("total correlation", overall), ("mean pairwise PMI", pairs)):
            mixed = score[:count].clone()
            mixed[bad] = score[first : first + len(bad)]
            wrong = torch.zeros(count).scatter(0, bad, 1.0)
            areas[title].append(round(float(roc_auc_score(wrong, -mixed)), 4))
    means = {f"mean, {title}": sum(own) / SEEDS for title, own in areas.items()}
    below = float((pairs[:count] < 0).double().mean())
    return {**areas, **means, "true rows below zero": below}


def imputed(run: TrainedRun, rows: SplitTensors, folder: Path) -> dict[str, Any]:
    """The share of filled cells that show their row's label, in rows with anything given."""
    assert rows.labels is not None
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(rows.present.shape, generator=generator) >= EMPTY
    given = manifest_rows(rows, dict(rows.items), present, folder / "gaps.jsonl")
    mld.impute(run, given, folder / "filled", 1)
    classifiers = run.classifiers
    right: dict[str, list[bool]] = {name: [] for name in run.modalities}
    places = {own: place for place, own in enumerate(rows.ids)}
    for told in read_filled(folder / "filled"):
        name = told["modality"]
        if told["joint"]:
            continue
        modality, cell = run.modalities[name], told["alternatives"][0]
        source = cell if modality.inline else folder / "filled" / cell
        x = modality.preprocess(modality.read(source))
        shown = classifiers[name](x[None]).argmax(1)
        right[name].append(int(shown) == int(rows.labels[places[told["id"]]]))
    every = [own for part in right.values() for own in part]
    shares = {name: sum(own) / len(own) for name, own in right.items()}
    return {"agreement": sum(every) / len(every), "cells": len(every), **shares}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = mld.load(parser.parse_args().run)
    dataset = open_dataset(run.spec, Registry())
    rows = Data(dataset, run.modalities).test
    assert rows.labels is not None
    with TemporaryDirectory() as folder, torch.no_grad():
        found = {
            "mispaired": mispaired(run, rows, Path(folder)),
            "imputed": imputed(run, rows, Path(folder)),
            "information of the labels": math.log(len(rows.labels.unique())),
            "information": {
                name: [round(own.value, 3), round(own.standard_error, 3)]
                for name, own in mld.information(run).items()
            },
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
