"""The table of photos, speech and captions."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "photos_and_speech.py"))


def test_rows_are_complete_but_for_empty_training_cells(
    script: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    script["write_table"](real_data, tmp_path, 20)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows[:10]] == ["train"] * 8 + ["validation", "test"]
    assert any("" in row.values() for row in rows)
    assert all("" not in row.values() for row in rows if row["split"] != "train")
    assert all(any(row[name] for name in script["COLUMNS"]) for row in rows)
    for row in rows:
        if row["photo"]:
            with Image.open(tmp_path / row["photo"]) as photo:
                assert (photo.size, photo.mode) == ((256, 256), "RGB")
        if row["sound"]:
            sound, rate = soundfile.read(tmp_path / row["sound"])
            assert (len(sound), rate) == (160_000, 16_000)
            assert 0.3 < abs(sound).max() < 0.61
    assert len({row["caption"] for row in rows}) > 10


def test_the_table_is_the_same_every_time(
    script: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    tables = []
    for name in "ab":
        (tmp_path / name).mkdir()
        script["write_table"](real_data, tmp_path / name, 3)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        tables.append([path.read_bytes() for path in files])
    assert tables[0] == tables[1]
