"""Runs of every format of run directories that there has been still load.

`format_1` is a run of a number and a category, written by mld 0.1.0 when there was format 1. Such a
folder is added with every new format, and never changed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mld.inference.trained_run import load
from mld.storage.run_dir import FORMAT, RunDir


@pytest.mark.filterwarnings("ignore:.*this run was made with:UserWarning")
@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_a_run_of_each_format_samples(number: int) -> None:
    folder = Path(__file__).parent / f"format_{number}"
    assert RunDir(folder).format == number
    samples = load(folder).sample(given={"colour": "five"}, n=2)
    assert all(abs(float(cell)) < 100 for cell in samples.cells("size"))
    values = json.loads((folder / "modalities" / "colour.json").read_text())["values"]
    assert {*load(folder).sample(n=3).cells("colour")} <= {*values}
