"""The conformance kit, applied to the built-in plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mld.conformance import (
    check_dataset,
    check_modality,
    conformance,
    dataset_conformance,
    method_conformance,
)

pytestmark = pytest.mark.usefixtures("warm_checks")
test_image = conformance("image", latent_dim=16, size=16, channels=1)
test_audio = conformance("audio", with_="text")
test_text = conformance("text")
test_image_grid, test_audio_sequence = (
    pytest.mark.slow(pytest.mark.long(test))
    for test in (
        conformance("image", size=8, channels=1, latent={}, with_="number"),
        conformance("audio", width=16, latent={}, with_="number"),
    )
)
test_molecule = conformance("molecule")
test_number = conformance("number", size=2, scale="quantile", log=True, with_="category")
test_category = conformance("category", unknown="other", latent_dim=8)
test_vector = conformance("vector", with_="number")
test_gaussian = method_conformance("gaussian")
test_examples = dataset_conformance(
    "examples", modalities={"word": "text", "molecule": "molecule"}, train=200
)


@pytest.mark.slow
def test_text_sequence() -> None:
    # Without the joint model, whose training together with this autoencoder exceeds the kit's limit
    # of processor time on slow machines.
    records = check_modality("text", {"latent": {}})
    assert {record.check: record.reason for record in records if record.failed} == {}


def make_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows with a word, and some with the name of a picture's file."""
    rows = [{"word": f"row {row}", "picture": None, "label": f"{row}"} for row in range(40)]
    for row in range(0, 40, 3):
        Image.new("L", (16, 16), 6 * row).save(folder / f"{row}.png")
        rows[row] |= {"word": None, "picture": f"{row}.png"}
    return rows


def check_table(kind: str, path: Path, picture: str = "picture") -> None:
    records = check_dataset(kind, {"path": path}, {"word": "text", picture: "image"})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_manifest(tmp_path: Path) -> None:
    lines = [",".join(cell or "" for cell in row.values()) for row in make_rows(tmp_path)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["word,picture,label", *lines]))
    check_table("manifest", path)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_pylist(make_rows(tmp_path))
    parquet.write_table(table, tmp_path / "rows.parquet")
    check_table("parquet", tmp_path / "rows.parquet")


def test_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hugging-face")
    datasets.disable_progress_bars()
    rows = [
        {**row, "picture": row["picture"] and str(tmp_path / row["picture"])}
        for row in make_rows(tmp_path)
    ]
    rows = datasets.Dataset.from_list(rows).cast_column("picture", datasets.Image())
    splits = datasets.DatasetDict({"train": rows.select(range(30)), "test": rows.select([30, 31])})
    splits.save_to_disk(tmp_path / "rows")
    check_table("hugging-face", tmp_path / "rows")


def test_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the extra webdataset")
    with webdataset.TarWriter(str(tmp_path / "rows.tar")) as writer:
        for index, row in enumerate(make_rows(tmp_path)):
            sample = {"__key__": f"{index:02}", "json": {"word": row["word"]}, "cls": index}
            if row["picture"]:
                sample["png"] = (tmp_path / row["picture"]).read_bytes()
            writer.write(sample)
    check_table("webdataset", tmp_path / "rows.tar", "png")
