"""The same rows as a manifest, a Parquet file, a Hugging Face dataset and WebDataset shards."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from mld.config.spec import Spec, load_spec
from mld.data.loading import Data, fit_modalities, open_dataset
from mld.pipeline.run import run
from mld.storage.weight_store import WeightStore
from mld_core import SPLITS, Registry

REGISTRY = Registry()
ROWS = 40
SPEC = {
    "name": "rows",
    "modalities": {
        "picture": {"kind": "image", "latent_dim": 4, "size": 16, "channels": 1},
        "caption": {"kind": "text", "latent_dim": 4, "max_bytes": 16},
        "height": {"kind": "number"},
    },
    "autoencode": {"steps": 1, "batch_size": 8},
    "diffuse": {
        "network": {"kind": "residual-mlp", "width": 16, "depth": 1},
        "steps": 1,
        "batch_size": 8,
    },
    "generate": {"num_samples": 2, "num_previews": 1, "steps": 2, "subsets": [[]]},
    "evaluate": {"steps": 1, "batch_size": 8},
    "compute": {"threads": 1},
}

Row = dict[str, Any]


def make_rows(splits: bool) -> list[Row]:
    """Rows in which each column has gaps; a picture is the bytes of a PNG file."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for index in range(ROWS):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(buffer, "PNG")
        row: Row = {
            "id": f"row {index}",
            "label": ("", "ten", "één")[index % 3],
            "picture": None if index % 7 == 3 else buffer.getvalue(),
            "caption": None if index % 5 == 2 else f"caption é {index}",
            "height": None if index % 4 == 1 else float(rng.normal()),
        }
        if splits:
            row["split"] = ("train", "train", "dev", "TEST")[index % 4]
        rows.append(row)
    return rows


def names_of(rows: list[Row]) -> list[str | None]:
    """The names of the pictures' files."""
    return [f"{index}.png" if row["picture"] else None for index, row in enumerate(rows)]


def write_manifest(rows: list[Row], folder: Path) -> Row:
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row, name in zip(rows, names_of(rows), strict=True):
            if name:
                (folder / name).write_bytes(row["picture"])
            writer.writerow({**row, "picture": name})
    return {"kind": "manifest", "path": str(folder / "rows.csv")}


def write_parquet(rows: list[Row], folder: Path) -> Row:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pip install 'mld-toolkit[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, folder / "rows.parquet", row_group_size=9)
    return {"kind": "parquet", "path": str(folder / "rows.parquet")}


def write_hugging_face(rows: list[Row], folder: Path) -> Row:
    datasets = pytest.importorskip(
        "datasets", reason="needs pip install 'mld-toolkit[hugging-face]'"
    )
    kinds = dict.fromkeys(rows[0], datasets.Value("string"))
    features = {**kinds, "picture": datasets.Image(), "height": datasets.Value("float64")}
    pictures = [row["picture"] and {"bytes": row["picture"], "path": None} for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(
        {**columns, "picture": pictures}, datasets.Features(features)
    ).save_to_disk(folder / "rows")
    return {"kind": "hugging-face", "path": str(folder / "rows")}


def write_shards(rows: list[Row], folder: Path) -> Row:
    webdataset = pytest.importorskip(
        "webdataset", reason="needs pip install 'mld-toolkit[webdataset]'"
    )
    pattern = str(folder / "rows-%02d.tar")
    with webdataset.ShardWriter(pattern, maxcount=9, verbose=0) as writer:
        for index, row in enumerate(rows):
            cells = {name: cell for name, cell in row.items() if name != "picture"}
            files = {"picture.png": row["picture"]} if row["picture"] else {}
            writer.write({"__key__": f"{index:03}", "json": cells, **files})
    return {"kind": "webdataset", "path": str(folder / "rows-{00..04}.tar")}


WRITERS = [write_parquet, write_hugging_face, write_shards]


def load(data: Row, folder: Path) -> Spec:
    """The spec of some data; their pictures may be in a column of another name."""
    path = folder / f"{data['kind']}.yaml"
    modalities = dict(SPEC["modalities"])
    if data["kind"] == "webdataset":
        modalities["picture"] = {**modalities["picture"], "column": "picture.png"}
    path.write_text(
        yaml.safe_dump({**SPEC, "data": data, "modalities": modalities}, sort_keys=False)
    )
    return load_spec(path, REGISTRY)


def load_items(spec: Spec) -> tuple[Any, Data]:
    dataset = open_dataset(spec, REGISTRY)
    return dataset, Data(dataset, fit_modalities(spec, dataset, REGISTRY))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("has_splits", [False, True])
def test_the_same_rows_give_the_same_items(
    write: Callable[[list[Row], Path], Row], has_splits: bool, tmp_path: Path
) -> None:
    rows = make_rows(has_splits)
    expected_dataset, expected = load_items(load(write_manifest(rows, tmp_path), tmp_path))
    dataset, data = load_items(load(write(rows, tmp_path), tmp_path))
    assert data.classes == expected.classes == ("ten", "één")
    for name in SPLITS:
        assert dataset.split(name).present == expected_dataset.split(name).present
        split, other = data.split(name), expected.split(name)
        assert split.ids == other.ids
        assert torch.equal(split.labels, other.labels)
        assert torch.equal(split.present, other.present)
        for modality in SPEC["modalities"]:
            assert torch.equal(split.items[modality][:], other.items[modality][:])
    assert sum(len(dataset.split(name).ids) for name in SPLITS) == ROWS


@pytest.mark.parametrize("write", [write_manifest, *WRITERS])
def test_items_that_cannot_be_used(write: Callable[[list[Row], Path], Row], tmp_path: Path) -> None:
    rows = make_rows(splits=True)
    rows[0] |= {"picture": b"no image"}
    rows[4] |= {"caption": "more than 16 bytes of text"}
    spec = load(write(rows, tmp_path), tmp_path)
    dataset = open_dataset(spec, REGISTRY)
    modalities = fit_modalities(spec, dataset, REGISTRY)
    dropped = Data(dataset, modalities, on_invalid="drop").train
    emptied = Data(dataset, modalities, on_invalid="empty").train
    assert {"row 0", "row 4"} == {*emptied.ids} - {*dropped.ids}
    assert emptied.present[:, 0].tolist().count(True) == sum(
        row["picture"] is not None for row in rows[1:] if row["split"] == "train"
    )
    faults = {fault.row: fault.message for fault in dropped.faults}
    assert faults.keys() == {"row 0", "row 4"}
    assert faults["row 0"].endswith(": the file is not an image in a format that Pillow can read")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_same_rows_give_the_same_weights(tmp_path: Path) -> None:
    rows = make_rows(splits=False)
    weights = []
    for write in (write_manifest, *WRITERS):
        spec = load(write(rows, tmp_path), tmp_path)
        folder = tmp_path / spec.data.kind
        run(spec, folder / "run", REGISTRY, store=WeightStore(folder / "store"))
        files = sorted((folder / "run").rglob("*.safetensors"))
        weights.append({str(path.relative_to(folder)): load_file(path) for path in files})
    expected = weights[0]
    assert any("autoencoders" in name for name in expected)
    for other in weights[1:]:
        assert other.keys() == expected.keys()
        for name, tensors in expected.items():
            for key, tensor in tensors.items():
                assert torch.equal(other[name][key], tensor), f"{name}: {key}"


@pytest.mark.parametrize("kind", ["parquet", "hugging-face", "hugging-face image"])
def test_cells_may_name_files(kind: str, tmp_path: Path) -> None:
    rows = make_rows(splits=False)
    _, expected = load_items(load(write_manifest(rows, tmp_path), tmp_path))
    named = [{**row, "picture": name} for row, name in zip(rows, names_of(rows), strict=True)]
    if kind == "parquet":
        data = write_parquet(named, tmp_path)
    else:
        datasets = pytest.importorskip("datasets")
        columns = {name: [row[name] for row in named] for name in named[0]}
        folder = tmp_path if kind == "hugging-face image" else ".."
        columns["picture"] = [name and f"{folder}/{name}" for name in columns["picture"]]
        table = datasets.Dataset.from_dict(columns)
        if kind == "hugging-face image":
            table = table.cast_column("picture", datasets.Image())
        datasets.disable_progress_bars()
        table.save_to_disk(tmp_path / "rows")
        data = {"kind": "hugging-face", "path": str(tmp_path / "rows")}
    _, items = load_items(load(data, tmp_path))
    for name in SPLITS:
        split, other = items.split(name), expected.split(name)
        assert split.ids == other.ids
        assert torch.equal(split.items["picture"][:], other.items["picture"][:])
