"""The conformance kit, one test per check, and tests of this dataset alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from mld_newkind import NewKind, NewKindConfig

from mld.conformance import dataset_conformance

PATH = Path(__file__).parent.parent / "measurements.csv"

test_conformance = dataset_conformance("newkind", path=PATH)


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,material,hardness\n1,copper,3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no column 'density'"):
        NewKind(NewKindConfig(path=path), {}, seed=0).split("train")
