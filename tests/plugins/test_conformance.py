"""The conformance kit, applied to the built-in plugins."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mld.conformance import (
    check_dataset,
    conformance,
    dataset_conformance,
    method_conformance,
)

pytestmark = pytest.mark.usefixtures("warm_checks")
test_image = conformance("image", latent_dim=16, size=16, channels=1)
test_audio = conformance("audio", with_="text")
test_text = conformance("text")
test_molecule = conformance("molecule")
test_number = conformance("number", size=2, scale="quantile", log=True, with_="category")
test_category = conformance("category", unknown="other", latent_dim=8)
test_vector = conformance("vector", with_="number")
test_gaussian = method_conformance("gaussian")
test_examples = dataset_conformance(
    "examples", modalities={"word": "text", "molecule": "molecule"}, train=200
)


def test_manifest(tmp_path: Path) -> None:
    for row in range(0, 40, 3):
        Image.new("L", (16, 16), 6 * row).save(tmp_path / f"{row}.png")
    rows = [f"row {row},{'' if row % 3 else f'{row}.png'},{row}" for row in range(40)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["word,picture,label", *rows]))
    modalities = {"word": "text", "picture": "image"}
    records = check_dataset("manifest", {"path": path}, modalities)
    assert {record.check: record.reason for record in records if record.failed} == {}
